// One colour per model, the same for a name on every visit. style.css has the colours, for light and for dark.

export const NUM_COLOURS = 8;

/** Gives each name a colour of its own while there are any left: its name's, or the next free one. */
export class Colours {
  #slots = new Map();

  slot(name) {
    const known = this.#slots.get(name);
    if (known !== undefined) return known;
    const own = hash(name) % NUM_COLOURS;
    const taken = new Set(this.#slots.values());
    let slot = own;
    while (taken.has(slot) && taken.size < NUM_COLOURS) slot = (slot + 1) % NUM_COLOURS;
    this.#slots.set(name, slot);
    return slot;
  }
}

/** FNV-1a of UTF-16 code units, 32 bits. */
export function hash(text) {
  let value = 0x811c9dc5;
  for (let at = 0; at < text.length; at += 1) value = Math.imul(value ^ text.charCodeAt(at), 0x01000193);
  return value >>> 0;
}

/** The page's colours as a canvas needs them, in the theme that is on. */
export function resolved(names) {
  const probe = document.createElement("span");
  document.body.append(probe);
  const found = {};
  for (const name of names) {
    probe.style.color = `var(--${name})`;
    found[name] = getComputedStyle(probe).color;
  }
  probe.remove();
  return found;
}
