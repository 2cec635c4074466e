// Mouse, touch and keys on the timeline.

import { byId } from "./dom.js";

const IN = 1 / 1.5;
const OUT = 1.5;
const PAN = 0.2; // of the width, by keys
const WHEEL = 0.0015; // of the zoom's logarithm, per pixel of scrolling
const DRAG_PX = 4; // less is a click

/** view: the element around the canvas, which can have the focus. */
export function listen(timeline, view) {
  const { viewport } = timeline;
  const zoom = (factor, fraction = 0.5) => {
    viewport.zoom(factor, fraction, timeline.nowS);
    timeline.changed();
  };
  const togglePause = () => {
    if (viewport.isLive) viewport.pause(timeline.nowS);
    else viewport.follow();
    timeline.changed();
  };
  byId("zoom-in").addEventListener("click", () => zoom(IN));
  byId("zoom-out").addEventListener("click", () => zoom(OUT));
  byId("pause").addEventListener("click", togglePause);

  const pan = (fraction) => {
    viewport.pan(fraction, timeline.nowS);
    timeline.changed();
  };
  const keys = {
    "+": () => zoom(IN),
    "=": () => zoom(IN),
    "-": () => zoom(OUT),
    ArrowLeft: () => pan(-PAN),
    ArrowRight: () => pan(PAN),
    " ": togglePause,
    Home: () => pan(-Infinity),
    End: () => pan(Infinity),
    ",": () => timeline.step(-1),
    ".": () => timeline.step(1),
    Escape: () => timeline.point(null),
  };
  view.addEventListener("keydown", (event) => {
    const act = keys[event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act();
  });

  const place = (event) => {
    const box = view.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top, width: box.width };
  };
  // A page that scrolls must not stop scrolling over it: the wheel zooms once the timeline has the focus, or with Ctrl.
  view.addEventListener(
    "wheel",
    (event) => {
      if (!event.ctrlKey && !event.metaKey && document.activeElement !== view) return;
      event.preventDefault();
      const { x, width } = place(event);
      if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) pan(event.deltaX / width);
      else zoom(Math.exp(event.deltaY * WHEEL), x / width);
    },
    { passive: false },
  );
  listenToPointers(timeline, view, place, { pan, zoom });
}

/** One finger or button drags, two pinch; a tap or hovering shows numbers. */
function listenToPointers(timeline, view, place, { pan, zoom }) {
  const down = new Map(); // pointer -> its place
  let movedPx = 0;
  view.addEventListener("pointerdown", (event) => {
    view.focus({ preventScroll: true });
    down.set(event.pointerId, place(event));
    movedPx = 0;
  });
  view.addEventListener("pointermove", (event) => {
    const now = place(event);
    const last = down.get(event.pointerId);
    if (!last) {
      if (event.pointerType !== "touch") timeline.point(now);
      return;
    }
    const [other] = [...down].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
    down.set(event.pointerId, now);
    movedPx += Math.abs(now.x - last.x);
    if (movedPx < DRAG_PX) return;
    if (!view.hasPointerCapture(event.pointerId)) view.setPointerCapture(event.pointerId);
    if (other) zoom(Math.max(Math.abs(last.x - other.x), 1) / Math.max(Math.abs(now.x - other.x), 1), other.x / now.width);
    else pan((last.x - now.x) / now.width);
  });
  const up = (event) => {
    const wasTap = down.delete(event.pointerId) && movedPx < DRAG_PX;
    if (wasTap && event.type === "pointerup") timeline.point(place(event));
  };
  view.addEventListener("pointerup", up);
  view.addEventListener("pointercancel", up);
  view.addEventListener("pointerleave", (event) => {
    if (event.pointerType !== "touch") timeline.point(null);
  });
  view.addEventListener("dblclick", (event) => {
    const { x, width } = place(event);
    zoom(IN * IN, x / width);
  });
}
