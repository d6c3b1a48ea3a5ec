import JobletModel

/// Jobs whose output nobody stores (`ipc.enabled: false` when they were admitted). Their rings are given back as they are
/// read, so such a job never waits for anyone; a follower reads what is not overwritten yet, and is told what it missed.
///
/// An ended job's ring goes at once, but for those who read it now or are about to: it stays `settings.linger` after the end and
/// the last pull.
extension JobSupervisor {
  /// However busy its followers are.
  private static let longestLinger: Duration = .seconds(30)
  /// So many rings of ended jobs at most: beyond, the oldest goes first.
  private static let maxLingering = 64

  /// The job has ended, and its followers have a moment to read the rest.
  func linger(_ job: SupervisedJob) {
    lingering.append(job.id)
    if lingering.count > JobSupervisor.maxLingering, let first = lingering.first { letGo(first) }
    lookAgain(at: job.id, after: settings.linger, until: .now + JobSupervisor.longestLinger)
  }

  /// Nothing of the job is kept any longer but its record.
  func letGo(_ id: JobID) {
    lingering.removeAll { $0 == id }
    if let job = jobs[id] { apply(.settled, to: job) }
  }

  private func lookAgain(at id: JobID, after delay: Duration, until deadline: ContinuousClock.Instant) {
    loop.schedule(after: delay) { [weak self] in
      self?.assumeIsolated { supervisor in
        guard supervisor.lingering.contains(id), let job = supervisor.jobs[id] else { return }
        let rest = job.lastPull.map { supervisor.settings.linger - (.now - $0) } ?? .zero
        guard rest > .zero, .now < deadline else { return supervisor.letGo(id) }
        supervisor.lookAgain(at: id, after: rest, until: deadline)
      }
    }
  }
}
