// Follows the data: the server says that something changed, the pages ask for what they show.
(function () {
  "use strict";
  const SHORTEST = 1500; // ms between two refreshes: a page must be readable while a feed races
  const SILENT = 40000; // ms without a word, when the server sends one every 15 s: it is gone
  const AGAIN = 3000; // ms between two attempts to reach it
  const UNCOUNTED = ["/models", "/subscriptions", "/rules"]; // what these show is not part of the version
  let last = 0;
  let timer = null;
  let newest = null;
  let news = false; // whether the data changed since the last refresh, or only time went by
  let known = null; // the version that the page was loaded with: no news yet
  let source = null;
  let heard = 0;
  let asking = false;

  function hand_over() {
    timer = null;
    if (document.hidden || !document.getElementById("page") || !window.dash_clientside) {
      timer = setTimeout(hand_over, 500);
      return;
    }
    last = Date.now();
    window.dash_clientside.set_props(news || UNCOUNTED.includes(location.pathname) ? "pulse" : "beat", { data: newest });
    news = false;
  }

  function cut(gone) {
    if (document.body) document.body.classList.toggle("cut", gone);
  }

  function hear() {
    heard = Date.now();
    cut(false);
  }

  function follow() {
    source = new EventSource("/api/v1/live"); // reconnects by itself, but not after a refusal
    heard = Date.now();
    source.addEventListener("open", hear);
    source.addEventListener("error", function () {
      cut(true);
      if (source.readyState === EventSource.CLOSED) ask();
    });
    source.addEventListener("pulse", function (event) {
      hear();
      const first = known === null;
      const told = JSON.parse(event.data);
      const version = told.version + "~" + told.outages; // after an outage the page may lack something
      const changed = version !== known;
      known = version;
      if (first) return;
      news = news || changed;
      newest = event.data;
      if (timer === null) timer = setTimeout(hand_over, Math.max(0, last + SHORTEST - Date.now()));
    });
  }

  // Why there is nothing to hear: the login is over, or the server is away for a while.
  function ask() {
    if (asking) return;
    asking = true;
    source.close();
    fetch("/api/v1/me").then(function (answer) {
      if (answer.status === 401) location.assign("/login?next=" + encodeURIComponent(location.pathname + location.search));
      else setTimeout(function () { asking = false; follow(); }, AGAIN);
    }).catch(function () {
      setTimeout(function () { asking = false; ask(); }, AGAIN);
    });
  }

  setInterval(function () {
    if (asking || Date.now() - heard < SILENT) return;
    cut(true);
    ask();
  }, 5000);
  window.addEventListener("pagehide", function () { if (source) source.close(); });
  window.addEventListener("pageshow", function (event) { if (event.persisted) location.reload(); });

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
