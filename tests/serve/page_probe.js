// Note in the page when loud sound leaves the loudspeaker and when images are drawn, in ms of performance.now().
(async () => {
  const { playback, connection } = studio;
  const context = playback.context;
  const LOUD = 0.05;
  const PAUSE_S = 0.5; // between two sounds
  const probe = { sent: [], heard: [], drawn: {}, lastLoud: 0 };
  globalThis.probe = probe;
  const outputAt = (time) => {
    const { contextTime, performanceTime } = context.getOutputTimestamp();
    return performanceTime + 1000 * (time - contextTime);
  };

  // What came: the frame in which each loud sound begins, and how long after the frame's own beginning.
  let quiet = PAUSE_S * context.sampleRate;
  connection.addEventListener("frame", ({ detail }) => {
    const view = new DataView(detail);
    const start = 32 + view.getUint32(16, true);
    for (let i = 0; start + 2 * i < detail.byteLength; i++) {
      const loud = Math.abs(view.getInt16(start + 2 * i, true)) > LOUD * 32768;
      if (loud && quiet >= PAUSE_S * context.sampleRate) {
        probe.sent.push({ index: Number(view.getBigUint64(8, true)), offsetMs: (1000 * i) / context.sampleRate });
      }
      quiet = loud ? 0 : quiet + 1;
    }
  });

  // What is heard.
  await context.audioWorklet.addModule("page_probe_worklet.js");
  const meter = new AudioWorkletNode(context, "probe", { numberOfOutputs: 0 });
  meter.port.onmessage = ({ data }) => {
    if (data.begins !== undefined) probe.heard.push(outputAt(data.begins));
    else probe.lastLoud = outputAt(data.last);
  };
  playback.source.connect(meter);

  // What is seen: an image is on the screen one refresh after it was drawn.
  const canvas = document.getElementById("canvas");
  new MutationObserver(() => {
    probe.drawn[canvas.dataset.frame] = performance.now() + 1000 / 60;
  }).observe(canvas, { attributes: true, attributeFilter: ["data-frame"] });
})();
