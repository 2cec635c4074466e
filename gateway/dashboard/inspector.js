// The numbers of one step and its turn: beside the pointer, and in words for screen readers.

import { element, setText } from "./dom.js";
import { bytes, counted, duration, quantity } from "./format.js";

const MARGIN_PX = 14;

export class Inspector {
  #box;
  #words;

  /** box: floats over the lanes. words: a live region. */
  constructor(box, words) {
    this.#box = box;
    this.#words = words;
  }

  /** found: {worker, turn, step}. place: {x, y} in the box's parent. */
  show(found, nowS, place, isSaid = false) {
    const rows = facts(found, nowS);
    this.#box.replaceChildren(
      element("strong", {}, found.turn.model),
      element("dl", {}, ...rows.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)])),
    );
    this.#box.hidden = false;
    this.#place(place);
    if (isSaid) setText(this.#words, `${found.turn.model}. ${rows.map((row) => row.join(" ")).join(", ")}`);
  }

  hide() {
    this.#box.hidden = true;
  }

  #place({ x, y }) {
    const { clientWidth, clientHeight } = this.#box.parentElement;
    const { offsetWidth, offsetHeight } = this.#box;
    const left = x + MARGIN_PX + offsetWidth > clientWidth ? x - MARGIN_PX - offsetWidth : x + MARGIN_PX;
    const top = Math.min(y + MARGIN_PX, Math.max(clientHeight - offsetHeight, 0));
    this.#box.style.transform = `translate(${Math.max(Math.round(left), 0)}px, ${Math.round(top)}px)`;
  }
}

/** [name, value] rows. */
export function facts({ worker, turn, step }, nowS) {
  const numSteps = turn.pieces.reduce((sum, piece) => sum + piece.steps.length / 4, 0);
  const rows = [
    ["step", duration(step.durationS)],
    ["prompt tokens", quantity(step.numPrefill)],
    ["decode tokens", quantity(step.numDecode)],
    ["turn", `${counted(numSteps, "step")} in ${duration(turn.endS - turn.startS)}`],
  ];
  if (turn.switched) {
    const { kind, waited_s: waitedS, copied_bytes: copied } = turn.switched;
    rows.push(["switched", [kind, waitedS ? `waited ${duration(waitedS)}` : "", copied ? bytes(copied) : ""].filter(Boolean).join(", ")]);
  }
  rows.push(["began", `${duration(Math.max(nowS - step.startS, 0))} ago`], ["worker", worker]);
  return rows;
}
