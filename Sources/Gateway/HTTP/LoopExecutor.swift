import NIOCore

/// Runs a connection's tasks on its own event loop: a request is read, answered and written without a change of thread, and
/// the watchdog that looks at the loops looks at the work too. Nothing that blocks may run here.
final class LoopExecutor: TaskExecutor {
  let loop: any EventLoop

  init(_ loop: any EventLoop) { self.loop = loop }

  func enqueue(_ job: consuming ExecutorJob) {
    let unowned = UnownedJob(job)
    let executor = asUnownedTaskExecutor()
    loop.execute { unowned.runSynchronously(on: executor) }
  }
}

/// One executor a loop, made at start, so that a request allocates none.
struct LoopExecutors: Sendable {
  private let byLoop: [ObjectIdentifier: LoopExecutor]

  init(_ group: any EventLoopGroup) {
    var byLoop: [ObjectIdentifier: LoopExecutor] = [:]
    for loop in group.makeIterator() { byLoop[ObjectIdentifier(loop)] = LoopExecutor(loop) }
    self.byLoop = byLoop
  }

  subscript(loop: any EventLoop) -> LoopExecutor { byLoop[ObjectIdentifier(loop)] ?? LoopExecutor(loop) }
}
