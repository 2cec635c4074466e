// The timeline: a lane per worker, live. Frames are drawn only while it is in sight and something moves.

import { resolved, NUM_COLOURS } from "./colours.js";
import { byId, setText } from "./dom.js";
import { before, duration } from "./format.js";
import { nextStep, stepAt, turnsOf } from "./history.js";
import { LANE_PX, paintAxis, paintCursor, paintLane, scaleOf } from "./paint.js";
import { Inspector } from "./inspector.js";
import { listen } from "./timeline_input.js";
import { tickStep, Viewport } from "./viewport.js";

const AXIS_PX = 26;
const LABELS_PX = 90; // between marks of the axis
const FASTEST_MS = 33;
const SLOWEST_MS = 500;
const NEAR_S = 30; // how far a step leads at most
const WHOLE_S = 5; // so that turns at the edges are whole
const KINDS = ["resident", "prefetched", "streamed", "copied", "from disk"];

export class Timeline {
  #history;
  #clock; // () -> the gateway's time in seconds, or null
  #colours;
  #canvas = byId("timeline-canvas");
  #inspector = new Inspector(byId("inspector"), byId("step-details"));
  #workers = [];
  #look = null;
  #cursor = null; // {worker, turn, step}
  #timer = null;
  #isInSight = true;

  constructor(history, clock, colours) {
    this.#history = history;
    this.#clock = clock;
    this.#colours = colours;
    this.viewport = new Viewport();
    byId("timeline-workers").style.setProperty("--lane", `${LANE_PX}px`);
    new ResizeObserver(() => this.draw()).observe(this.#canvas.parentElement);
    new IntersectionObserver(([entry]) => {
      this.#isInSight = entry.isIntersecting;
      this.wake();
    }).observe(this.#canvas);
    document.addEventListener("visibilitychange", () => this.wake());
    listen(this, byId("timeline-view"));
  }

  /** names: the workers that have lanes, in order. */
  show(names) {
    if (names.join("\n") === this.#workers.join("\n")) return;
    this.#workers = names;
    this.draw();
  }

  get nowS() {
    return this.#clock() ?? 0;
  }

  /** Colours have changed. */
  restyle() {
    this.#look = null;
    this.draw();
  }

  /** After a change of what it shows. */
  changed() {
    setText(byId("span"), duration(this.viewport.spanS));
    setText(byId("pause"), this.viewport.isLive ? "Pause" : "Go live");
    byId("pause").setAttribute("aria-pressed", String(!this.viewport.isLive));
    byId("timeline-view").classList.toggle("paused", !this.viewport.isLive);
    this.draw();
    this.wake();
  }

  /** Draws on while there is something to see moving. */
  wake() {
    if (this.#timer !== null) return;
    const { spanS, isLive } = this.viewport;
    if (document.hidden || !this.#isInSight || !isLive || this.#clock() === null) return;
    const pxMs = (1000 * spanS) / Math.max(this.#canvas.clientWidth, 1);
    const moves = this.#history.workers.length > 0;
    const waitMs = moves ? Math.min(SLOWEST_MS, Math.max(FASTEST_MS, pxMs)) : SLOWEST_MS;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      requestAnimationFrame(() => {
        this.draw();
        this.wake();
      });
    }, waitMs);
  }

  draw() {
    const { nowS } = this;
    const look = (this.#look ??= this.#makeLook());
    const widthPx = this.#canvas.clientWidth;
    const lanesPx = this.#workers.length * LANE_PX;
    const context = this.#sized(widthPx, lanesPx + AXIS_PX);
    const scale = { ...scaleOf(this.viewport.range(nowS), widthPx), nowS };
    const stepS = tickStep(LABELS_PX / scale.pxPerS);
    paintAxis(context, lanesPx, AXIS_PX, stepS, (seconds) => before(seconds, stepS), scale, look);
    this.#workers.forEach((worker, index) => {
      paintLane(context, index * LANE_PX, this.#turns(worker), scale, look);
      if (this.#cursor?.worker === worker) paintCursor(context, index * LANE_PX, this.#cursor.step, scale, look);
    });
  }

  /** Shows the numbers of what is at that place; null hides them. */
  point(place) {
    const found = place && this.#at(place);
    this.#cursor = found;
    if (found) this.#inspector.show(found, this.nowS, place);
    else this.#inspector.hide();
    this.draw();
  }

  /** Moves to the step before or after, and says its numbers. by: -1 or 1. */
  step(by) {
    this.viewport.pause(this.nowS);
    const { fromS, toS } = this.viewport.range(this.nowS);
    const worker = this.#cursor?.worker ?? this.#workers.find((name) => this.#turns(name).length);
    if (!worker) return;
    const from = this.#cursor?.step;
    const atS = from ? from.startS : by > 0 ? fromS : toS;
    const turns = turnsOf(this.#history.between(worker, atS - NEAR_S, atS + NEAR_S));
    const found = nextStep(turns, atS, by);
    if (found) {
      this.#cursor = { worker, ...found };
      this.viewport.reveal(found.step.startS, this.nowS);
      const scale = scaleOf(this.viewport.range(this.nowS), this.#canvas.clientWidth);
      const y = this.#workers.indexOf(worker) * LANE_PX;
      this.#inspector.show(this.#cursor, this.nowS, { x: scale.x(found.step.startS), y }, true);
    }
    this.changed();
  }

  /** What ran on each worker in the time that is shown: [{worker, numTurns, numSwitches, shares: model -> share}]. */
  inSight() {
    const { fromS, toS } = this.viewport.range(this.nowS);
    return this.#workers.map((worker) => {
      const turns = this.#turns(worker);
      const shares = new Map();
      for (const { model, startS, endS } of turns) {
        shares.set(model, (shares.get(model) ?? 0) + (endS - startS) / (toS - fromS));
      }
      return { worker, numTurns: turns.length, numSwitches: turns.filter((turn) => turn.switched).length, shares };
    });
  }

  #at({ x, y }) {
    const worker = this.#workers[Math.floor(y / LANE_PX)];
    if (worker === undefined) return null;
    const { fromS, pxPerS } = scaleOf(this.viewport.range(this.nowS), this.#canvas.clientWidth);
    const atS = fromS + x / pxPerS;
    const found = stepAt(this.#turns(worker, WHOLE_S), atS);
    if (!found) return null;
    const { startS, durationS } = found.step;
    const farPx = Math.max(startS - atS, atS - startS - durationS) * pxPerS;
    return farPx > 12 ? null : { worker, ...found };
  }

  #turns(worker, aroundS = 0) {
    const { fromS, toS } = this.viewport.range(this.nowS);
    return turnsOf(this.#history.between(worker, fromS - aroundS, toS + aroundS));
  }

  #sized(widthPx, heightPx) {
    const canvas = this.#canvas;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [Math.round(widthPx * ratio), Math.round(heightPx * ratio)];
    if (canvas.height !== height) canvas.style.height = `${heightPx}px`;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, widthPx, heightPx);
    return context;
  }

  #makeLook() {
    const slots = Array.from({ length: NUM_COLOURS }, (_, index) => `model-${index}`);
    const marks = { resident: "faint", prefetched: "faint", streamed: "warm", copied: "warm", "from disk": "bad" };
    const found = resolved([...slots, "ink", "faint", "line", "track", "on-model", "prefill", "wait", "warm", "bad"]);
    const family = getComputedStyle(document.body).fontFamily;
    return {
      colour: (model) => found[slots[this.#colours.slot(model)]],
      ink: found.ink,
      faint: found.faint,
      line: found.line,
      track: found.track,
      wait: found.wait,
      prefill: found.prefill,
      onColour: found["on-model"],
      betweenSteps: 0.35,
      marks: Object.fromEntries(KINDS.map((kind) => [kind, found[marks[kind]]])),
      font: `600 12px ${family}`,
      smallFont: `11px ${family}`,
    };
  }
}
