// What lies in each worker's memories: models' weights by colour, and KV.

import { byId, element, reconcile, setAttribute, setText } from "./dom.js";
import { bytes, percent } from "./format.js";

/** workers: the feed's. colours: of models. */
export function showResidency(workers, colours) {
  byId("no-workers").hidden = workers.length > 0;
  reconcile(byId("residency"), workers, {
    key: (worker) => worker.worker,
    make: (worker) => element("section", {}, element("h3", {}, worker.worker), ...["Device", "Host", "KV"].map(bar)),
    update: (section, worker) => {
      const [, device, host, kv] = section.children;
      showBar(device, weightParts(worker.device.models, colours), worker.device.total_bytes);
      showBar(host, weightParts(worker.host.models, colours), worker.host.total_bytes);
      showBar(kv, [{ name: "in use", slot: null, size: worker.kv.used_bytes }], worker.kv.total_bytes);
    },
  });
}

function bar(name) {
  return element("div", { class: "memory" },
    element("span", { class: "memory-name" }, name),
    element("div", { class: "bar", role: "img" }),
    element("span", { class: "memory-use" }),
  );
}

/** Models in the order of their names, so that parts keep their order. */
function weightParts(models, colours) {
  return Object.keys(models).sort().map((name) => ({ name, slot: colours.slot(name), size: models[name] }));
}

/** parts: {name, slot, size}. total: null where there is no known limit. */
function showBar(node, parts, total) {
  const [, track, use] = node.children;
  const used = parts.reduce((sum, part) => sum + part.size, 0);
  const whole = Math.max(total ?? used, used, 1);
  reconcile(track, parts.filter((part) => part.size > 0), {
    key: (part) => part.name,
    make: (part) => element("i", { class: part.slot === null ? "part kv" : `part c${part.slot}` }),
    update: (child, part) => {
      child.style.width = `${(100 * part.size) / whole}%`;
      setAttribute(child, "title", `${part.name}: ${bytes(part.size)}`);
    },
  });
  setText(use, total === null ? bytes(used) : `${bytes(used)} of ${bytes(total)}`);
  const named = parts.map((part) => `${part.name} ${bytes(part.size)}`).join(", ");
  setAttribute(track, "aria-label", total ? `${percent(used / whole)} used: ${named || "nothing"}` : named || "nothing");
}
