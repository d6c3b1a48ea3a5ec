import JobletModel

/// What a restarted exec finds of one job.
package struct AdoptionFacts: Hashable, Sendable {
  /// What the newest record says.
  package var status: JobStatus
  /// The ring's phase; nil if there is no ring that can be mapped.
  package var phase: RingPhase?
  /// exec gave the go.
  package var hasGo: Bool
  /// The process that was written down lives: its PID is there and started when the written one did.
  package var isInitAlive: Bool

  package init(status: JobStatus, phase: RingPhase?, hasGo: Bool, isInitAlive: Bool) {
    self.status = status
    self.phase = phase
    self.hasGo = hasGo
    self.isInitAlive = isInitAlive
  }
}

/// What a restarted exec does with it.
package enum AdoptionDecision: Hashable, Sendable, CaseIterable {
  /// Its record says how it ended: send what persist has not acknowledged, remove what is left.
  case drain
  /// Its PID 1 reported: decide the end from the ring.
  case collect
  /// It had the go and lives: go on supervising.
  case supervise
  /// It had the go and its PID 1 is gone without a report.
  case lost
  /// It waits for a slot, or its start was cut off before the go, so its command certainly did not run: clean up and queue. Its
  /// sandbox may live; but whether it has the job's whole plan only the exec before knew.
  case requeue

  package init(_ facts: AdoptionFacts) {
    if facts.status.isEnded {
      self = .drain
    } else if facts.status == .queued {
      self = .requeue
    } else if facts.phase == .ended {
      self = .collect
    } else if facts.isInitAlive, facts.hasGo {
      self = .supervise
    } else if facts.hasGo || (facts.phase ?? .new) >= .running {
      self = .lost
    } else {
      self = .requeue
    }
  }
}
