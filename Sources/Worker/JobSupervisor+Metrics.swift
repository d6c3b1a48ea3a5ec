import JobletModel
import JobletWire
import LinuxKernel
import Logging
import NIOCore

/// Samples of what jobs use: measured off the loop, numbered and handed on here.
extension JobSupervisor {
  // MARK: Taking

  /// Begins to sample a job that has its go.
  /// - Parameter delay: until the first sample. Jobs start at different moments, and so are sampled at different moments;
  ///   adopted ones are spread by their IDs.
  func startSampling(_ job: SupervisedJob, after delay: Duration) {
    guard job.isSampled, job.sampling == nil else { return }
    sample(job, at: .now + delay)
  }

  /// The first sample of an adopted job: some time within an interval.
  func spreadDelay(_ job: SupervisedJob) -> Duration {
    // The random bits: the lowest ones are the node's, the same for all.
    settings.sampleInterval * (Double(job.id.low >> 32 & 0xFFFF) / 65_536)
  }

  func stopSampling(_ job: SupervisedJob) {
    job.isSampled = false
    if let timer = job.sampling { loop.cancel(timer) }
    job.sampling = nil
  }

  private func sample(_ job: SupervisedJob, at moment: ContinuousClock.Instant) {
    let id = job.id
    job.sampling = loop.schedule(after: max(.zero, moment - .now)) { [weak self] in
      self?.assumeIsolated { supervisor in
        guard let job = supervisor.jobs[id], job.isSampled else { return }
        supervisor.measure(job)
        // On a fixed beat, so that the times between samples don't grow by what sampling takes.
        let next = moment + supervisor.settings.sampleInterval
        supervisor.sample(job, at: max(next, .now))
      }
    }
  }

  private func measure(_ job: SupervisedJob) {
    // One look at a time: a host that is slow to answer gets fewer questions, not a queue of them.
    guard !job.isMeasuring, job.feed.metrics.wants(clock: JobMeter.clock()) else { return }
    job.isMeasuring = true
    let (id, cgroup, process) = (job.id, job.cgroup, job.process)
    sampling.submit { [self] in
      let measurement = meter.measure(cgroup: cgroup, process: process)
      loop.post { self.assumeIsolated { $0.measured(id, measurement) } }
    }
  }

  private func measured(_ id: JobID, _ measurement: Measurement) {
    guard let job = jobs[id] else { return }
    job.isMeasuring = false
    // Once the job is being collected, the last sample is the collector's.
    guard job.isSampled, !measurement.isEmpty else { return }
    if let problem = measurement.problems.first, !job.hasToldOfFigures {
      job.hasToldOfFigures = true
      logger.warning(
        "a figure of a job can't be read; its samples lack it", metadata: ["job": "\(id)", "error": "\(problem)"])
    }
    add(measurement, to: job)
  }

  /// Numbers a measurement, writes it down and hands it on.
  func add(_ measurement: Measurement, to job: SupervisedJob) {
    let addition = job.feed.metrics.add(measurement)
    do {
      // Before anyone sees it: a joblet-exec killed in between would give the same number to another sample, and persist
      // takes a number only once.
      try job.directory.saveMetrics(addition.change)
    } catch {
      job.feed.metrics.fileFailed()
      logger.error(
        "a job's samples could not be saved; a restart of joblet-exec would lose them",
        metadata: ["job": "\(job.id)", "error": "\(error)"])
    }
    if let lost = addition.lost, !job.isLive {
      lostSamples += UInt64(lost.count)
      logger.warning(
        "persist has been away for too long: the oldest of a job's samples is lost",
        metadata: ["job": "\(job.id)", "seq": "\(lost.lowerBound)", "lost_in_all": "\(lostSamples)"])
    }
    if job.isLive { job.feed.metrics.letGo() }
    link.wake(job.feed)
    wakeWaiters(job, .samples)
  }

  // MARK: Followers

  /// The next samples of one follower, or the news that there are none.
  package func metricOutput(_ request: OutputRequest) async -> ([Frame], OutputState) {
    let bytes = min(max(request.maxBytes, 1), 4 << 20)
    let deadline = ContinuousClock.now + .milliseconds(min(max(request.waitMilliseconds, 0), 60_000))
    while true {
      guard let job = jobs[request.job] else {
        return ([], ended[request.job]?.samples(after: request.after) ?? OutputState(.unknown))
      }
      switch job.feed.metrics.read(after: request.after, maxBytes: bytes) {
      case .chunk(let chunk):
        job.lastPull = .now
        return ([frame(chunk, of: job)], OutputState(.more))
      case .behind(let oldest):
        job.lastPull = .now
        let acknowledged = job.isLive ? nil : job.feed.metrics.ackedSeq
        return ([], OutputState(.behind, oldest: oldest, acknowledged: acknowledged))
      case .nothing: break
      }
      if job.record.status.isEnded { return ([], OutputState(.ended, record: job.record)) }
      let rest = deadline - .now
      guard rest > .zero, !Task.isCancelled else { return ([], OutputState(.more)) }
      job.lastPull = .now
      await waitForNews(of: job, .samples, atMost: rest)
    }
  }

  private func frame(_ chunk: MetricSeries.Chunk, of job: SupervisedJob) -> Frame {
    Frame(
      FrameHeader(
        .metric, flags: .encoded, job: job.id, seq: chunk.firstSeq, timestamp: chunk.time, count: chunk.count),
      payload: ByteBuffer(bytes: chunk.lines))
  }
}
