// What is decided in the browser, when an answer arrives: which part of a chart the reader looks at. The server cannot
// know it, since the reader may zoom while an answer is on its way.
(function () {
  "use strict";
  const SERIES = "series";

  function drawing(id) {
    const holder = document.getElementById(id);
    return holder ? holder.querySelector(".js-plotly-plot") : null;
  }

  function looked(graph) {
    const axis = graph && graph.layout && graph.layout.xaxis;
    return axis && axis.autorange === false && axis.range ? axis.range.slice() : null;
  }

  function from_address() {
    const zoom = (new URLSearchParams(location.search).get("zoom") || "").split(",");
    return zoom.length === 2 ? zoom.map(function (end) { return end.replace("T", " ").replace("Z", ""); }) : null;
  }

  function fitted(figure, range) {
    if (!figure || !figure.layout) return figure;
    const axis = Object.assign({}, figure.layout.xaxis);
    if (range) { axis.range = range; axis.autorange = false; } else { delete axis.range; axis.autorange = true; }
    return Object.assign({}, figure, { layout: Object.assign({}, figure.layout, { xaxis: axis }) });
  }

  // Drawing anew under a finger that drags would break the drag.
  function at_rest(graphs, then) {
    return new Promise(function (resolve) {
      (function look() {
        if (graphs.some(function (graph) { return graph && graph._dragging; })) setTimeout(look, 50);
        else resolve(then());
      })();
    });
  }

  function series(answer) {
    if (!answer) return window.dash_clientside.no_update;
    return at_rest([drawing(SERIES)], function () {
      return fitted(JSON.parse(answer.figure), answer.fresh ? from_address() : looked(drawing(SERIES)) || from_address());
    });
  }

  // A live answer holds the charts that changed, as JSON; an answer may be dropped while a finger drags.
  let latest = {};

  function keep(answer) {
    if (answer.fresh) latest = {};
    Object.keys(answer.figures).forEach(function (topic) { latest[topic] = JSON.parse(answer.figures[topic]); });
  }

  function overview(answer) {
    const outputs = window.dash_clientside.callback_context.outputs_list;
    const ids = outputs.map(function (output) {
      return JSON.stringify({ topic: output.id.topic, type: output.id.type });
    });
    if (!answer) return ids.map(function () { return window.dash_clientside.no_update; });
    keep(answer);
    return at_rest(ids.map(drawing), function () {
      return outputs.map(function (output, at) {
        const figure = latest[output.id.topic];
        if (!figure) return window.dash_clientside.no_update;
        return fitted(figure, answer.fresh ? null : looked(drawing(ids[at])));
      });
    });
  }

  // A zoom of the series page is part of its address.
  function zoomed(relayout) {
    const keep = window.dash_clientside.no_update;
    if (!relayout) return keep;
    const ends = relayout["xaxis.range"] || [relayout["xaxis.range[0]"], relayout["xaxis.range[1]"]];
    const query = new URLSearchParams(location.search);
    if (ends[0] && ends[1]) {
      query.set("zoom", ends.map(function (end) { return String(end).slice(0, 19).replace(" ", "T") + "Z"; }).join(","));
    } else if (relayout["xaxis.autorange"] && query.has("zoom")) query.delete("zoom");
    else return keep;
    const text = query.toString().replace(/%2C/g, ",").replace(/%3A/g, ":");
    return text ? "?" + text : "";
  }

  window.dash_clientside = Object.assign({}, window.dash_clientside, {
    crosswind: { series: series, overview: overview, zoomed: zoomed },
  });

  // A picture of a chart as it is shown, on paper, with its name; bands and notes included.
  document.addEventListener("click", function (event) {
    const button = event.target.closest && event.target.closest("button.png");
    const graph = button && drawing(button.dataset.chart);
    if (!graph || !window.Plotly) return;
    const ink = getComputedStyle(document.body);
    const layout = Object.assign({}, graph.layout, {
      paper_bgcolor: ink.backgroundColor, plot_bgcolor: ink.backgroundColor,
      font: Object.assign({}, graph.layout.font, { color: ink.color }),
      title: { text: button.dataset.title, x: 0.01, font: { size: 14 } },
      margin: Object.assign({}, graph.layout.margin, { t: 40 }),
    });
    window.Plotly.downloadImage({ data: graph.data, layout: layout },
      { format: "png", width: 1200, height: 520, scale: 2, filename: "crosswind-" + button.dataset.chart });
  });
})();
