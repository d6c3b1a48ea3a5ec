import LinuxKernel
import Logging
import Synchronization

/// A user namespace for one job, with its range of host IDs.
package final class JobNamespace: Sendable {
  package let namespace: UserNamespace
  package var firstID: UInt32 { namespace.firstID }

  init(_ namespace: consuming UserNamespace) { self.namespace = namespace }
}

/// User namespaces with their maps written, made ahead of need: 0.3 ms that no job's start waits for.
package final class NamespaceStock: Sendable {
  private struct State: ~Copyable {
    var ranges: IDRangePool
    var ready: [JobNamespace] = []
    var isFilling = false
  }
  private let state: Mutex<State>
  private let size: Int
  private let filler: WorkQueue
  private let logger: Logger

  package init(ranges: IDRangePool, size: Int = 16, filler: WorkQueue, logger: Logger) {
    state = Mutex(State(ranges: ranges))
    self.size = size
    self.filler = filler
    self.logger = logger
  }

  /// Marks the range of an adopted job as taken.
  package func adopt(_ range: UInt32) -> Bool { state.withLock { $0.ranges.adopt(range) } }

  /// Takes a namespace out, or makes one now if the stock is empty. Blocks the thread in that case, but never for a range: that
  /// of a job that has ended comes back when what the job left is removed.
  /// - Returns: nil if every range is in use.
  /// - Throws: ``SetupProblem`` if the kernel refuses.
  package func take() throws(SetupProblem) -> JobNamespace? {
    defer { fill() }
    let (ready, free) = state.withLock { state -> (JobNamespace?, UInt32?) in
      if let ready = state.ready.popLast() { return (ready, nil) }
      return (nil, state.ranges.take())
    }
    if let ready { return ready }
    guard let range = free else { return nil }
    do {
      return JobNamespace(try UserNamespace.make(firstID: range, count: IDRangePool.rangeSize))
    } catch {
      giveBack(range)
      throw SetupProblem(step: "user namespace", message: "\(error)")
    }
  }

  /// The job is gone, its files too: nothing on this host has these IDs any more.
  package func giveBack(_ range: UInt32) { state.withLock { $0.ranges.giveBack(range) } }

  /// Fills the stock in the background.
  package func fill() {
    let start = state.withLock { state in
      guard !state.isFilling, state.ready.count < size / 2 else { return false }
      state.isFilling = true
      return true
    }
    if start { filler.submit { [self] in fillNow() } }
  }

  private func fillNow() {
    while let range = state.withLock({ $0.ready.count < size ? $0.ranges.take() : nil }) {
      do {
        let namespace = JobNamespace(try UserNamespace.make(firstID: range, count: IDRangePool.rangeSize))
        state.withLock { $0.ready.append(namespace) }
      } catch {
        giveBack(range)
        logger.error("a user namespace could not be made", metadata: ["error": "\(error)"])
        break
      }
    }
    state.withLock { $0.isFilling = false }
  }
}
