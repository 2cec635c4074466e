// Models, and requests in flight.

import { byId, element, modelName, reconcile, setAttribute, setText } from "./dom.js";
import { duration, percent, quantity } from "./format.js";

const LATE = 0.9; // less than that share on time is worth a look: goodput's limit

function cells(...kinds) {
  return kinds.map((kind) => element("td", { class: kind }));
}

export function showModels(models, colours) {
  byId("no-models").hidden = models.length > 0;
  byId("models-table").hidden = !models.length;
  reconcile(byId("models"), models, {
    key: ({ model }) => model,
    make: ({ model }) => {
      const pin = element("span", { class: "pin", title: "its weights stay" }, "pinned");
      const state = element("td", {}, element("span", { class: "pill" }));
      const name = element("th", { scope: "row" }, modelName(model, colours.slot(model)), pin);
      return element("tr", {}, name, state, ...cells("number", "number", "number", "number", "number"));
    },
    update: (row, model) => {
      const [name, state, waiting, running, ttft, onTime, rate] = row.children;
      name.lastElementChild.hidden = !model.pinned;
      showState(state.firstElementChild, model);
      setText(waiting, quantity(model.waiting));
      setText(running, quantity(model.running));
      setText(ttft, duration(model.predicted_ttft_s));
      setText(onTime, percent(model.attainment));
      onTime.classList.toggle("bad", model.attainment !== null && model.attainment < LATE);
      setText(rate, quantity(model.tokens_per_s));
      const { ttft_s: first, tbt_s: between } = model.slo;
      setAttribute(row, "title", `due: first token in ${duration(first)}, then each ${duration(between)}; priority ${model.priority}`);
    },
  });
}

function showState(pill, { state, progress }) {
  setText(pill, progress === null ? state : `${state} ${Math.floor(progress * 100)} %`);
  setAttribute(pill, "data-state", state);
  pill.style.setProperty("--done", progress === null ? "0%" : `${progress * 100}%`);
}

/** requests: the feed's, its oldest ones. total: of all. */
export function showRequests(requests, total, colours) {
  byId("no-requests").hidden = requests.length > 0;
  byId("requests-table").hidden = !requests.length;
  setText(byId("num-requests"), total ? quantity(total) : "");
  setText(byId("more-requests"), total > requests.length ? `and ${quantity(total - requests.length)} younger ones` : "");
  reconcile(byId("requests"), requests, {
    key: ({ id }) => id,
    make: ({ id, model, tenant }) => {
      const name = element("th", { scope: "row", title: `${id}, of ${tenant}` }, modelName(model, colours.slot(model)));
      const phase = element("td", {}, element("span", { class: "pill" }));
      return element("tr", {}, name, phase, ...cells("number", "number", "number", "worker"));
    },
    update: (row, request) => {
      const [, phase, prompt, output, age, worker] = row.children;
      setText(phase.firstElementChild, request.phase);
      setAttribute(phase.firstElementChild, "data-state", request.phase);
      setAttribute(phase.firstElementChild, "title", request.status || null);
      setText(prompt, quantity(request.num_prompt_tokens));
      setText(output, quantity(request.num_output_tokens));
      setText(age, duration(request.age_s));
      setText(worker, request.worker ?? "–");
      setAttribute(worker, "title", request.worker);
    },
  });
}
