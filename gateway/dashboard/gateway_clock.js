// What time it is at the gateway, from instants that arrive late.

const DRIFT_S_PER_S = 0.001; // so that one early arrival does not count for ever

/** All in seconds; `localS` is of performance.now(). */
export class GatewayClock {
  #aheadS = null; // the gateway's clock less ours, by the event that came with the least delay
  #observedAtS = 0;

  observe(atS, localS) {
    const aheadS = atS - localS;
    const forgottenS = (localS - this.#observedAtS) * DRIFT_S_PER_S;
    this.#aheadS = this.#aheadS === null ? aheadS : Math.max(aheadS, this.#aheadS - forgottenS);
    this.#observedAtS = localS;
  }

  /** Null before anything was observed. */
  now(localS) {
    return this.#aheadS === null ? null : localS + this.#aheadS;
  }

  /** Another gateway, or another life of it: its clock began anew. */
  reset() {
    this.#aheadS = null;
  }
}
