// The names beside the timeline's lanes.

import { byId, element, modelName, reconcile, setText } from "./dom.js";
import { counted, percent, quantity } from "./format.js";

/** names: of the lanes, in order. workers: the feed's, which may lack one that has just gone. */
export function showLanes(names, workers) {
  const known = new Map(workers.map((worker) => [worker.worker, worker]));
  reconcile(byId("timeline-workers"), names, {
    key: (name) => name,
    make: (name) => element("li", {}, element("strong", { title: name }, name), element("span"), element("span")),
    update: (row, name) => {
      const worker = known.get(name);
      const [, what, rates] = row.children;
      setText(what, worker ? [worker.policy, worker.draining ? "draining" : ""].filter(Boolean).join(" · ") : "gone");
      setText(rates, worker ? `${quantity(worker.tokens_per_s)} tok/s · ${quantity(worker.switches_per_s)} sw/s` : "");
      row.classList.toggle("gone", !worker);
    },
  });
}

/** Which colour is whose, of the models in sight. */
export function showLegend(models, colours) {
  reconcile(byId("timeline-models"), models, {
    key: (name) => name,
    make: (name) => element("li", {}, modelName(name, colours.slot(name))),
    update: () => {},
  });
}

/** What the lanes show, for who can't see it. inSight: as the timeline has it. */
export function inWords(inSight) {
  return inSight
    .map(({ worker, numTurns, numSwitches, shares }) => {
      const parts = [...shares].map(([model, share]) => `${model} ${percent(share)}`);
      const counts = `${counted(numTurns, "turn")}, ${counted(numSwitches, "switch", "switches")}`;
      return `${worker}: ${counts}${parts.length ? `. ${parts.join(", ")}` : ""}`;
    })
    .join("; ");
}
