import DaemonKit
import Synchronization
import Testing

/// Counts what the watchdog sends.
private final class Sent: Sendable {
  let count = Atomic<Int>(0)
  var value: Int { count.load(ordering: .relaxed) }
}

@Suite struct WatchdogTests {
  private func make(_ interval: Duration?) -> (Watchdog, Sent) {
    let sent = Sent()
    return (Watchdog(interval: interval) { sent.count.add(1, ordering: .relaxed) }, sent)
  }

  @Test func `without a watchdog nothing is sent`() {
    let (watchdog, sent) = make(nil)
    let heart = watchdog.heart("loop")
    for _ in 0..<1000 { heart.beat() }
    #expect(sent.value == 0)
  }

  @Test func `nothing is sent that was not beaten, and beats are limited`() {
    let (watchdog, sent) = make(.seconds(60))
    let heart = watchdog.heart("loop")
    #expect(sent.value == 0)
    for _ in 0..<100_000 { heart.beat() }
    #expect(sent.value == 1)
  }

  @Test func `one silent loop is enough to keep it silent`() {
    let (watchdog, sent) = make(.nanoseconds(2))
    let lively = watchdog.heart("lively")
    let stuck = watchdog.heart("stuck")
    for _ in 0..<10_000 { lively.beat() }
    #expect(sent.value == 0)
    stuck.beat()
    #expect(sent.value == 1)
    for _ in 0..<10_000 { lively.beat() }
    #expect(sent.value == 1)
    // A loop that ended on purpose is not waited for.
    stuck.stop()
    lively.beat()
    #expect(sent.value > 1)
  }
}
