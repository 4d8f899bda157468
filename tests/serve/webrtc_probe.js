// A WebRTC client in the page: notes when images turn white and when sound becomes loud, in ms of performance.now().
async () => {
  const probe = { flashes: [], tones: [], events: [], images: 0, lastLoud: 0, state: "" };
  globalThis.probe = probe;
  const { iceServers } = await (await fetch("/v1/ice")).json();
  const connection = new RTCPeerConnection({ iceServers });
  connection.onconnectionstatechange = () => (probe.state = connection.connectionState);
  for (const kind of ["audio", "video"]) connection.addTransceiver(kind, { direction: "recvonly" });
  probe.channel = connection.createDataChannel("emotalking.v1");
  probe.channel.onmessage = ({ data }) => probe.events.push({ ...JSON.parse(data), at: performance.now() });

  const video = document.createElement("video");
  video.muted = video.autoplay = true;
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [8, 8];
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  let white = false;
  const seen = (now, { expectedDisplayTime }) => {
    probe.images += 1;
    pen.drawImage(video, 0, 0, 8, 8);
    const bright = pen.getImageData(4, 4, 1, 1).data[0] > 128;
    if (bright && !white) probe.flashes.push(expectedDisplayTime);
    white = bright;
    video.requestVideoFrameCallback(seen);
  };
  video.requestVideoFrameCallback(seen);

  const context = new AudioContext();
  await context.resume();
  const meter = context.createScriptProcessor(256, 1, 1);
  let quiet = 1;
  meter.onaudioprocess = ({ inputBuffer, playbackTime }) => {
    const { contextTime, performanceTime } = context.getOutputTimestamp();
    const samples = inputBuffer.getChannelData(0);
    const at = samples.findIndex((sample) => Math.abs(sample) > 0.1);
    quiet = at < 0 ? quiet + samples.length / context.sampleRate : quiet;
    if (at < 0) return;
    const heard = performanceTime + 1000 * (playbackTime + at / context.sampleRate - contextTime);
    if (quiet > 0.3) probe.tones.push(heard);
    probe.lastLoud = heard;
    quiet = 0;
  };
  meter.connect(context.destination);

  const tracks = new MediaStream();
  connection.ontrack = ({ track }) => {
    tracks.addTrack(track);
    video.srcObject = tracks;
    if (track.kind === "audio") {
      const source = context.createMediaStreamSource(new MediaStream([track]));
      source.connect(meter);
    }
  };
  document.body.append(video);
  await connection.setLocalDescription();
  while (connection.iceGatheringState !== "complete") await new Promise((done) => setTimeout(done, 20));
  const { sdp, type } = connection.localDescription;
  const headers = { "Content-Type": "application/json" };
  const answer = await fetch("/v1/offer", { method: "POST", headers, body: JSON.stringify({ sdp, type }) });
  await connection.setRemoteDescription(await answer.json());
}
