// The page, put together. Read this first.
//
// feed --> history --> timeline (canvas)            playground --> /v1/chat/completions
//      \-> state ----> summary, lanes, residency, tables

import { apiKey, headers, url } from "./api.js";
import { Colours } from "./colours.js";
import { byId, setText } from "./dom.js";
import { counted } from "./format.js";
import { Feed } from "./feed.js";
import { GatewayClock } from "./gateway_clock.js";
import { History } from "./history.js";
import { KeyDialog } from "./key_dialog.js";
import { inWords, showLanes, showLegend } from "./lanes.js";
import { Playground } from "./playground.js";
import { showResidency } from "./residency.js";
import { Summary } from "./summary.js";
import { showModels, showRequests } from "./tables.js";
import { followTheme } from "./theme.js";
import { Timeline } from "./timeline.js";

let gateway = null; // which one speaks, in this life
let stoppedAtS = null; // when the feed fell silent: the timeline stands still there
const localS = () => performance.now() / 1000;
const colours = new Colours();
const clock = new GatewayClock();
const history = new History();
const summary = new Summary();
const timeline = new Timeline(history, () => stoppedAtS ?? clock.now(localS()), colours);
const keyDialog = new KeyDialog(() => {
  feed.start();
  playground.refresh();
});
const playground = new Playground({ colours, onLocked: (why) => keyDialog.ask(why) });
const feed = new Feed({ url: url("admin/feed"), headers, onEvents, onStatus });

function onEvents(events) {
  for (const event of events) {
    if (event.type === "turns") history.add(event);
    else if (event.type === "state") onState(event);
    else if (event.type === "lost") setText(byId("lost"), `${counted(event.number, "event")} left out: this page reads too slowly.`);
  }
  timeline.wake();
}

function onState(state) {
  if (state.gateway !== gateway) {
    if (gateway !== null) history.clear();
    clock.reset();
    gateway = state.gateway;
  }
  clock.observe(state.at_s, localS());
  history.prune(state.at_s);
  state.models.map(({ model }) => model).sort().forEach((model) => colours.slot(model));
  const names = [...new Set([...state.workers.map(({ worker }) => worker), ...history.workers])].sort();
  summary.show(state);
  showLanes(names, state.workers);
  showResidency(state.workers, colours);
  showModels(state.models, colours);
  showRequests(state.requests, state.num_requests, colours);
  byId("no-lanes").hidden = names.length > 0;
  timeline.show(names);
  const inSight = timeline.inSight();
  showLegend([...new Set(inSight.flatMap(({ shares }) => [...shares.keys()]))].sort(), colours);
  setText(byId("timeline-words"), inWords(inSight));
  playground.expect(state.models.map(({ model }) => model));
}

function onStatus(status) {
  summary.connection(status);
  if (status.phase === "live") setText(byId("lost"), "");
  stoppedAtS = status.phase === "live" ? null : (stoppedAtS ?? clock.now(localS()));
  if (status.phase === "locked") keyDialog.ask(apiKey() ? status.message : "");
}

followTheme(() => timeline.restyle());
feed.start();
playground.refresh();
