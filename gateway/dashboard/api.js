// Where the gateway is, and the API key that it is asked with.

const KEY = "kottos.key"; // in sessionStorage: it is gone with the tab

export function url(path) {
  return new URL(path, document.baseURI).href; // also below a proxy's prefix
}

export function apiKey() {
  return sessionStorage.getItem(KEY) ?? "";
}

export function setApiKey(key) {
  if (key) sessionStorage.setItem(KEY, key);
  else sessionStorage.removeItem(KEY);
}

export function headers() {
  return apiKey() ? { Authorization: `Bearer ${apiKey()}` } : {};
}

/** The names of the models that whoever asks may use. Raises Refused. */
export async function modelNames() {
  const response = await fetch(url("v1/models"), { headers: headers(), cache: "no-store" });
  if (!response.ok) throw await Refused.of(response);
  return (await response.json()).data.map((model) => model.id);
}

/** What the gateway said instead of an answer. */
export class Refused extends Error {
  constructor(message, { status = 0, code = null } = {}) {
    super(message);
    this.status = status; // 0: it said so within a stream
    this.code = code;
  }

  static async of(response) {
    const body = await response.json().catch(() => null);
    const message = body?.error?.message ?? `The gateway answered with status ${response.status}.`;
    return new Refused(message, { status: response.status, code: body?.error?.code });
  }
}
