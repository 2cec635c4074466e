// What workers did in the last two minutes. Bounded in time and in number; the oldest go.

export const KEEP_S = 120;
export const MAX_STEPS = 50_000; // of a worker: two minutes of steps of 2.4 ms
export const MAX_PIECES = 20_000; // of a worker
export const STEP_FIELDS = 4; // offset_s, duration_s, num_prefill_tokens, num_decode_tokens
const JOIN_S = 0.25; // pieces of one turn that are further apart are shown as two
const SAME_S = 1e-6; // instants that are closer are one

/**
 * A turn, or what one message told of it:
 * {model, startS, endS, switched: null | {kind, waited_s, copied_bytes}, steps: Float32Array, offsets from startS}
 */
export class History {
  #lanes = new Map(); // worker -> {pieces sorted by startS, numSteps}

  /** Takes a feed's event of type "turns". */
  add({ worker, turns }) {
    let lane = this.#lanes.get(worker);
    if (!lane) this.#lanes.set(worker, (lane = { pieces: [], numSteps: 0 }));
    for (const turn of turns) {
      const piece = pieceOf(turn);
      const last = lane.pieces.at(-1);
      if (last && piece.startS < last.startS) lane.pieces.splice(firstAfter(lane.pieces, piece.startS), 0, piece);
      else lane.pieces.push(piece);
      lane.numSteps += numSteps(piece);
    }
    this.#drop(lane, -Infinity);
  }

  /** Forgets what ended more than KEEP_S before nowS, and workers of which nothing is left. */
  prune(nowS) {
    for (const [worker, lane] of this.#lanes) {
      this.#drop(lane, nowS - KEEP_S);
      if (!lane.pieces.length) this.#lanes.delete(worker);
    }
  }

  clear() {
    this.#lanes.clear();
  }

  get workers() {
    return [...this.#lanes.keys()];
  }

  get numSteps() {
    return [...this.#lanes.values()].reduce((sum, lane) => sum + lane.numSteps, 0);
  }

  /** The pieces of a worker that touch [fromS, toS), in order. */
  between(worker, fromS, toS) {
    const pieces = this.#lanes.get(worker)?.pieces ?? [];
    let first = firstAfter(pieces, fromS);
    while (first > 0 && pieces[first - 1].endS > fromS) first -= 1;
    return pieces.slice(first, firstAfter(pieces, toS));
  }

  #drop(lane, beforeS) {
    let numGone = 0;
    let left = lane.numSteps;
    for (const piece of lane.pieces) {
      const isTooMuch = left > MAX_STEPS || lane.pieces.length - numGone > MAX_PIECES;
      if (piece.endS >= beforeS && !isTooMuch) break;
      left -= numSteps(piece);
      numGone += 1;
    }
    if (numGone) lane.pieces.splice(0, numGone);
    lane.numSteps = left;
  }
}

/** Pieces put together to turns: {model, startS, endS, switched, pieces}. */
export function turnsOf(pieces) {
  const turns = [];
  for (const piece of pieces) {
    const last = turns.at(-1);
    const goesOn = last && last.model === piece.model && !piece.switched && piece.startS - last.endS < JOIN_S;
    if (goesOn) {
      last.endS = Math.max(last.endS, piece.endS);
      last.pieces.push(piece);
    } else {
      turns.push({ ...piece, pieces: [piece] });
    }
  }
  return turns;
}

/** Steps as objects, in order: {startS, durationS, numPrefill, numDecode}. */
export function* stepsOf(piece) {
  const { steps } = piece;
  for (let at = 0; at < steps.length; at += STEP_FIELDS) {
    yield {
      startS: piece.startS + steps[at],
      durationS: steps[at + 1],
      numPrefill: steps[at + 2],
      numDecode: steps[at + 3],
    };
  }
}

/** The step of these turns that runs at that instant, or the nearest one: {turn, step}, null where there is none. */
export function stepAt(turns, atS) {
  let found = null;
  let leastS = Infinity;
  for (const turn of turns) {
    for (const piece of turn.pieces) {
      if (distance(atS, piece.startS, piece.endS) > leastS) continue;
      for (const step of stepsOf(piece)) {
        const farS = distance(atS, step.startS, step.startS + step.durationS);
        if (farS < leastS) [found, leastS] = [{ turn, step }, farS];
      }
    }
  }
  return found;
}

/** The first step that starts after that instant, or (by: -1) the last one that starts before: {turn, step} or null. */
export function nextStep(turns, atS, by) {
  let found = null;
  for (const turn of turns) {
    for (const piece of turn.pieces) {
      for (const step of stepsOf(piece)) {
        if (by > 0 && step.startS > atS + SAME_S) return { turn, step };
        if (by < 0 && step.startS < atS - SAME_S) found = { turn, step };
      }
    }
  }
  return found;
}

function pieceOf({ model, began_at_s: beganAtS, switch: switched, steps }) {
  const firstS = steps[0]?.[0] ?? 0; // offsets are kept from there: small ones lose nothing as 32 bits
  const flat = new Float32Array(steps.length * STEP_FIELDS);
  steps.forEach(([offsetS, ...rest], index) => flat.set([offsetS - firstS, ...rest], index * STEP_FIELDS));
  const [offsetS, durationS] = steps.at(-1) ?? [0, 0];
  return { model, startS: beganAtS + firstS, endS: beganAtS + offsetS + durationS, switched, steps: flat };
}

function numSteps(piece) {
  return piece.steps.length / STEP_FIELDS;
}

/** The index of the first piece that starts at atS or later. */
function firstAfter(pieces, atS) {
  let low = 0;
  let high = pieces.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (pieces[middle].startS < atS) low = middle + 1;
    else high = middle;
  }
  return low;
}

function distance(atS, startS, endS) {
  return Math.max(startS - atS, atS - endS, 0);
}
