// Which stretch of time the timeline shows.

import { KEEP_S } from "./history.js";

export const MIN_SPAN_S = 0.02;
export const MAX_SPAN_S = KEEP_S;
export const LATE_S = 0.3; // what happened later has not arrived yet

export class Viewport {
  #endS = null; // null: it follows the present

  constructor(spanS = 15) {
    this.spanS = spanS;
  }

  get isLive() {
    return this.#endS === null;
  }

  /** [fromS, toS) that is seen at nowS. */
  range(nowS) {
    const toS = this.#endS ?? nowS - LATE_S;
    return { fromS: toS - this.spanS, toS };
  }

  pause(nowS) {
    this.#endS ??= nowS - LATE_S;
  }

  follow() {
    this.#endS = null;
  }

  /** factor < 1 shows less time. What is at that fraction of the width stays there, unless the view is live. */
  zoom(factor, fraction, nowS) {
    const { fromS } = this.range(nowS);
    const anchorS = fromS + fraction * this.spanS;
    this.spanS = Math.min(MAX_SPAN_S, Math.max(MIN_SPAN_S, this.spanS * factor));
    if (!this.isLive) this.#moveTo(anchorS + (1 - fraction) * this.spanS, nowS);
  }

  /** By a part of the width; positive is later. Looking back stops the view, and the present lets it follow again. */
  pan(fraction, nowS) {
    const wantedS = this.range(nowS).toS + fraction * this.spanS;
    if (fraction > 0 && wantedS >= nowS - LATE_S) this.follow();
    else this.#moveTo(wantedS, nowS);
  }

  /** So that an instant is in sight, and in the middle if it was not. */
  reveal(atS, nowS) {
    const { fromS, toS } = this.range(nowS);
    this.#endS = toS;
    if (atS < fromS || atS > toS) this.#moveTo(atS + this.spanS / 2, nowS);
  }

  #moveTo(endS, nowS) {
    const latestS = nowS - LATE_S;
    const earliestS = Math.min(latestS, nowS - KEEP_S + this.spanS);
    this.#endS = Math.min(latestS, Math.max(earliestS, endS));
  }
}

/** The distance between marks of an axis: 1, 2 or 5 times a power of ten, at least that much. */
export function tickStep(leastS) {
  const power = 10 ** Math.floor(Math.log10(leastS));
  const times = [1, 2, 5, 10].find((each) => each * power >= leastS * 0.999);
  return times * power;
}
