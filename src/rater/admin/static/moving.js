// What moves by itself on a page. Without this file the page shows what was there when it was opened.
//
// [data-stream]: where the page listens, with a status and a button to pause. "changed" says that the page is another
// one by now: it is asked for once more, and its parts [data-live] take the place of those that are shown. "told"
// brings a row for the table [data-rows].
"use strict";
(() => {
  const place = document.querySelector("[data-stream]");
  if (!place) return;
  const ROWS_MAX = 200;
  const AGAIN_MS = 5000;
  const status = place.querySelector("[role=status]");
  const button = place.querySelector("button");
  const rows = document.querySelector("[data-rows]");
  let stream = null;
  let timer = 0;
  let last = null;
  let paused = false;
  let ended = false;
  let asking = false;
  let once_more = false;

  function say(text, state) {
    if (status.textContent !== text) status.textContent = text;
    place.dataset.state = state;
  }

  function swap(page) {
    for (const old of document.querySelectorAll("[data-live]")) {
      const now = page.getElementById(old.id);
      // Who has the focus in there would lose it.
      if (now && !old.isEqualNode(now) && !old.contains(document.activeElement)) old.replaceWith(now);
    }
  }

  async function look() {
    if (asking) {
      once_more = true;
      return;
    }
    asking = true;
    try {
      do {
        once_more = false;
        const answer = await fetch(location.href, { headers: { "X-By-Itself": "1" } });
        if (answer.redirected) {
          ended = true;
          stop();
          say("your session has ended: open the page again", "off");
        } else if (answer.ok) {
          swap(new DOMParser().parseFromString(await answer.text(), "text/html"));
        }
      } while (once_more && !ended);
    } catch {
      // The stream is away, too: it says so, and comes again.
    } finally {
      asking = false;
    }
  }

  function add(text) {
    const holder = document.createElement("template");
    holder.innerHTML = text;
    const row = holder.content.querySelector("tr");
    if (!rows || !row || document.getElementById(row.id)) return;
    document.querySelector("[data-none]")?.remove();
    rows.prepend(row);
    while (rows.rows.length > ROWS_MAX) rows.lastElementChild.remove();
  }

  function stop() {
    clearTimeout(timer);
    stream?.close();
    stream = null;
  }

  // A browser gives a site six connections or so: pages that nobody looks at let go of theirs.
  function listen() {
    if (stream || paused || ended || document.hidden) return;
    const url = new URL(place.dataset.stream, location.href);
    if (last !== null) url.searchParams.set("after", last);
    stream = new EventSource(url);
    stream.addEventListener("open", () => say("live", "on"));
    stream.addEventListener("error", () => {
      say("not connected, trying again", "off");
      if (stream && stream.readyState === EventSource.CLOSED) {
        stop();
        timer = setTimeout(() => look().then(listen), AGAIN_MS);
      }
    });
    stream.addEventListener("changed", look);
    stream.addEventListener("told", (event) => {
      last = event.lastEventId;
      add(event.data);
    });
  }

  button.hidden = false;
  button.addEventListener("click", () => {
    paused = !paused;
    button.textContent = paused ? "Go on" : "Pause";
    if (paused) {
      stop();
      say("paused", "off");
    } else {
      listen();
    }
  });
  document.addEventListener("visibilitychange", () => (document.hidden ? stop() : listen()));
  listen();
})();
