// One stream of events for all open tabs: browsers allow six connections to a server, and a desk has many tabs.
// The tab that holds the lock listens and tells the others. Events only say "look again": parts that are marked
// with hx-trigger="live..." fetch themselves.

const CHANNEL = "gatehouse-live";
const RETRY_MS = 3000;
const SETTLE_MS = 400; // who only passes through a page opens no stream

// What may happen, by the names that the stream gives it: named events have no common listener.
const KINDS = [
  "ticket.created", "ticket.changed", "ticket.left", "message.received", "message.held_aside", "answer.queued",
  "answer.not_delivered", "delivery.changed", "channel.changed", "ledger.quarantined",
];

export function listen(htmx, url) {
  const others = "BroadcastChannel" in window ? new BroadcastChannel(CHANNEL) : null;
  const tell = (message) => {
    apply(htmx, message);
    others?.postMessage(message);
  };
  const lead = () => new Promise(() => setTimeout(stream, SETTLE_MS, url, tell));
  if (others) others.onmessage = (event) => apply(htmx, event.data);
  if (others && navigator.locks) {
    navigator.locks.request(CHANNEL, { ifAvailable: true }, (lock) => {
      if (lock) return lead();
      refresh(htmx); // the stream began before this page was drawn
      navigator.locks.request(CHANNEL, lead);
      return undefined;
    });
  } else {
    lead();
  }
  window.addEventListener("pageshow", (event) => event.persisted && refresh(htmx));
}

function stream(url, tell) {
  const source = new EventSource(url);
  source.onopen = () => {
    tell({ kind: "connected", isOn: true });
    tell({ kind: "opened" }); // something may have happened between drawing the page and listening
  };
  source.onerror = () => {
    tell({ kind: "connected", isOn: false });
    if (source.readyState === EventSource.CLOSED) setTimeout(() => stream(url, tell), RETRY_MS);
  };
  for (const kind of KINDS) {
    source.addEventListener(kind, (event) => {
      const { ticket } = JSON.parse(event.data);
      tell({ kind: "happened", what: kind, ticket });
    });
  }
  window.addEventListener("pagehide", () => source.close());
}

function apply(htmx, message) {
  if (message.kind === "connected") {
    document.documentElement.dataset.connection = message.isOn ? "on" : "off";
    return;
  }
  if (message.kind === "opened") {
    refresh(htmx);
    return;
  }
  htmx.trigger(document.body, "live");
  if (message.ticket) htmx.trigger(document.body, `live-${message.ticket}`);
  if (message.what === "message.received") announce("A new message came in.");
  if (message.what === "answer.not_delivered") announce("An answer was not delivered.");
}

function refresh(htmx) {
  htmx.trigger(document.body, "live");
  for (const part of document.querySelectorAll("[data-ticket]")) {
    htmx.trigger(document.body, `live-${part.dataset.ticket}`);
  }
}

function announce(words) {
  const place = document.getElementById("announcements");
  if (place) place.textContent = words;
}
