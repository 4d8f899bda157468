// Note in the page when loud sound leaves the loudspeaker and when images are drawn, in ms of performance.now().
(() => {
  const { playback, connection } = studio;
  const context = playback.context;
  const LOUD = 0.05;
  const PAUSE_S = 0.2; // between two sounds
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

  // What is heard: the newest samples of a meter end at the context's current time.
  const meter = new AnalyserNode(context, { fftSize: 32768 });
  playback.source.connect(meter);
  const samples = new Float32Array(meter.fftSize);
  let known = context.currentTime;
  let lastLoud = -1;
  setInterval(() => {
    const end = context.currentTime;
    meter.getFloatTimeDomainData(samples);
    const first = Math.max(0, samples.length - Math.round((end - known) * context.sampleRate));
    for (let i = first; i < samples.length; i++) {
      if (Math.abs(samples[i]) <= LOUD) continue;
      const time = end - (samples.length - i) / context.sampleRate;
      if (time - lastLoud > PAUSE_S) probe.heard.push(outputAt(time));
      lastLoud = time;
      probe.lastLoud = outputAt(time);
    }
    known = end;
  }, 20);

  // What is seen: an image is on the screen one refresh after it was drawn.
  const canvas = document.getElementById("canvas");
  new MutationObserver(() => {
    probe.drawn[canvas.dataset.frame] = performance.now() + 1000 / 60;
  }).observe(canvas, { attributes: true, attributeFilter: ["data-frame"] });
})();
