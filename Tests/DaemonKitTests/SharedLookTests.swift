import DaemonKit
import Synchronization
import Testing

@Suite(.timeLimit(.minutes(2))) struct SharedLookTests {
  /// A look that ends when it is told to.
  final class Gate: Sendable {
    private let state = Mutex<(looks: Int, isOpen: Bool, waiting: CheckedContinuation<Void, Never>?)>((0, false, nil))

    var looks: Int { state.withLock { $0.looks } }

    func look() async -> Int {
      await withCheckedContinuation { continuation in
        let isOpen = state.withLock { state in
          state.looks += 1
          if !state.isOpen { state.waiting = continuation }
          return state.isOpen
        }
        if isOpen { continuation.resume() }
      }
      return looks
    }

    func open() {
      let waiting = state.withLock { state in
        state.isOpen = true
        defer { state.waiting = nil }
        return state.waiting
      }
      waiting?.resume()
    }
  }

  @Test func `all who ask share one look, and who asks soon after has it too`() async {
    let gate = Gate()
    let shared = SharedLook(age: .seconds(600), patience: .seconds(600)) { await gate.look() }
    await withTaskGroup(of: Int?.self) { group in
      for _ in 0..<100 { group.addTask { await shared.value() } }
      while shared.waiting < 100 { await Task.yield() }
      gate.open()
      for await value in group { #expect(value == 1) }
    }
    #expect(await shared.value() == 1)
    #expect(gate.looks == 1)
  }

  @Test func `what was seen is soon looked up anew`() async {
    let gate = Gate()
    gate.open()
    let shared = SharedLook(age: .zero, patience: .seconds(600)) { await gate.look() }
    #expect(await shared.value() == 1)
    #expect(await shared.value() == 2)
  }

  @Test func `a look that hangs holds nobody up, has none behind it, and counts when it is done`() async {
    let gate = Gate()
    let shared = SharedLook(age: .seconds(600), patience: .milliseconds(10)) { await gate.look() }
    for _ in 0..<1000 { #expect(await shared.value() == nil) }
    #expect(gate.looks == 1 && shared.waiting == 0)
    gate.open()
    while await shared.value() == nil { await Task.yield() }
    #expect(await shared.value() == 1)
    #expect(gate.looks == 1)
  }
}
