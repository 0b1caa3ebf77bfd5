// Follows the data: the server says that something changed, the pages ask for what they show.
(function () {
  "use strict";
  const SHORTEST = 1500; // ms between two refreshes: a page must be readable while a feed races
  let last = 0;
  let timer = null;
  let newest = null;
  let known = null; // the version that the page was loaded with: no news yet

  function hand_over() {
    timer = null;
    if (document.hidden || !document.getElementById("page") || !window.dash_clientside) {
      timer = setTimeout(hand_over, 500);
      return;
    }
    last = Date.now();
    window.dash_clientside.set_props("pulse", { data: newest });
  }

  function follow() {
    const source = new EventSource("/api/v1/live"); // reconnects by itself
    source.addEventListener("pulse", function (event) {
      const first = known === null;
      const version = JSON.parse(event.data).version;
      const changed = version !== known;
      known = version;
      if (first) return;
      newest = event.data;
      if (timer === null) timer = setTimeout(hand_over, Math.max(0, last + SHORTEST - Date.now()));
    });
    window.addEventListener("pagehide", function () { source.close(); });
    window.addEventListener("pageshow", function (event) { if (event.persisted) location.reload(); });
  }

  // What was clicked is listed further down: bring the list into sight, once for each pick.
  let seen = "";
  new MutationObserver(function () {
    const ui = new URLSearchParams(location.search).get("ui") || "en";
    if (document.documentElement.lang !== ui) document.documentElement.lang = ui;
    const pick = document.querySelector("#pick .picked");
    const text = pick ? pick.textContent : "";
    if (text && text !== seen) document.getElementById("articles-panel").scrollIntoView({ block: "start" });
    seen = text;
  }).observe(document.documentElement, { childList: true, subtree: true, characterData: true });

  follow();
})();
