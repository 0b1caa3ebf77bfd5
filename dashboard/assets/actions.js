// Who is here, and what they do about alerts. The API decides who may; this only hides what would be refused.
(function () {
  "use strict";
  const FAILED = 8000; // ms that a button shows what was wrong

  function here(me) {
    document.body.classList.toggle("acts", me.acts);
    const place = document.getElementById("account");
    if (!place || place.firstChild || !me.leaves) return;
    const form = document.createElement("form");
    form.method = "post";
    form.action = "/logout";
    const name = document.createElement("span");
    name.textContent = me.name + " (" + me.role + ") ";
    const out = document.createElement("button");
    out.className = "button";
    const ui = document.createElement("input");
    ui.type = "hidden";
    ui.name = "ui";
    form.append(name, ui, out);
    place.append(form);
    // the page's language can change while the page stays
    function speak() { out.textContent = text("leave", "Log out"); ui.value = text("ui", ""); }
    new MutationObserver(speak).observe(place, { attributes: true });
    speak();
  }

  // Texts of the interface, which the server keeps in its catalogues.
  function text(name, otherwise) {
    const place = document.getElementById("account");
    return (place && place.dataset[name]) || otherwise;
  }

  function refresh() {
    window.dash_clientside.set_props("pulse", { data: JSON.stringify({ version: "acted", count: Date.now() }) });
  }

  document.addEventListener("click", async function (event) {
    const button = event.target.closest && event.target.closest("button.act");
    if (!button || (button.dataset.asks && !window.confirm(button.dataset.asks))) return;
    const label = button.dataset.label || button.textContent.replace(/^✓ /, "");
    button.dataset.label = label;
    const focused = document.activeElement === button; // a disabled one loses it
    button.disabled = true;
    const answer = await fetch(button.dataset.path, {
      method: button.dataset.method, body: button.dataset.body, headers: { "Content-Type": "application/json" },
    }).catch(function () { return null; });
    button.disabled = false;
    if (focused && document.activeElement === document.body) button.focus({ preventScroll: true });
    const told = answer ? await answer.json().catch(function () { return {}; }) : {};
    if (!answer) fail(button, label, text("silent", "the server does not answer"));
    else if (!answer.ok) fail(button, label, told.detail || text("refused", "refused"));
    else if (told.outcome && told.outcome !== "sent") fail(button, label, told.detail || told.outcome);
    else {
      button.textContent = "✓ " + label;
      refresh();
    }
  });

  // For a while the button says what was wrong, then its name again.
  function fail(button, label, problem) {
    const said = "✕ " + problem;
    button.title = problem;
    button.textContent = said;
    setTimeout(function () { if (button.textContent === said) button.textContent = label; }, FAILED);
  }

  // A form's fields as JSON: `name[]` is words between commas, in a field of many lines one a line (names of companies
  // have commas in them), `name#` a number; what is empty is left out.
  function fields(form) {
    const body = {};
    form.querySelectorAll("[name]").forEach(function (field) {
      const text = field.value.trim();
      const keep = field.type === "hidden" || field.tagName === "TEXTAREA";
      if (!text && !keep) return;
      if (field.name.endsWith("[]")) {
        const between = field.tagName === "TEXTAREA" ? /\n/ : /[,，、]/;
        body[field.name.slice(0, -2)] = text.split(between).map(function (word) { return word.trim(); }).filter(Boolean);
      } else if (field.name.endsWith("#")) body[field.name.slice(0, -1)] = Number(text);
      else body[field.name] = keep ? field.value : text;
    });
    return body;
  }

  function say(form, text, bad) {
    const place = form.querySelector(".answer");
    place.className = bad ? "answer problem" : "answer";
    place.textContent = (bad ? "✕ " : "✓ ") + text;
  }

  document.addEventListener("submit", async function (event) {
    const form = event.target.closest && event.target.closest("form.ask");
    if (!form) return;
    event.preventDefault();
    const send = form.querySelector("[type=submit]");
    send.disabled = true;
    const answer = await fetch(form.dataset.path, {
      method: form.dataset.method, body: JSON.stringify(fields(form)), headers: { "Content-Type": "application/json" },
    }).catch(function () { return null; });
    send.disabled = false;
    const told = answer ? await answer.json().catch(function () { return {}; }) : {};
    if (!answer || !answer.ok) { say(form, told.detail || text("silent", "the server does not answer"), true); return; }
    const known = told.id || told.version || "";
    say(form, told.secret ? known + "  " + told.secret : known, false);
    // what was saved is what the next change is over
    if (told.digest) window.dash_clientside.set_props("rules-over", { value: told.digest });
    refresh();
  }, true);

  (function wait() {
    if (!document.getElementById("account")) { setTimeout(wait, 100); return; }
    fetch("/api/v1/me").then(function (answer) {
      if (answer.status === 401) location.assign("/login");
      else if (answer.ok) answer.json().then(here);
    }).catch(function () {});
  })();
})();
