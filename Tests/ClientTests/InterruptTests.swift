import Glibc
import RnxCommands
import Testing

@Suite(.serialized, .timeLimit(.minutes(1))) struct InterruptTests {
  /// Twice, as one verb has it: while a job is posted, and while it is followed.
  @Test(arguments: 1...2, [SIGINT, SIGTERM])
  func `a signal is heard of, and begins what it should`(round: Int, number: CInt) async throws {
    let pressed = Promise<Int>()
    let interrupt = try Interrupt(
      farewell: "bye",
      action: .init(message: "stopping", overdue: "?") {
        pressed.keep(round)
        return "stopped"
      })
    #expect(kill(getpid(), number) == 0)
    #expect(await pressed.value() == round)
    #expect(interrupt.isTerminated == (number == SIGTERM))
    interrupt.restore()
  }

  @Test func `where there is nothing to begin the first signal ends it`() {
    var machine = InterruptMachine(farewell: "bye", overdue: nil)
    #expect(machine.take(SIGINT) == .end(farewell: "bye", code: 130))
    machine = InterruptMachine(farewell: "bye", overdue: nil)
    #expect(machine.take(SIGTERM) == .end(farewell: "bye", code: 143))
  }

  @Test func `what was announced is done before a second signal ends it`() {
    var machine = InterruptMachine(farewell: "bye", overdue: "unknown")
    #expect(machine.take(SIGINT) == .begin)
    #expect(machine.take(SIGINT) == .wait)
    #expect(machine.take(SIGINT) == .nothing)
    #expect(machine.done("it stops") == .end(farewell: "it stops", code: 130))
  }

  @Test func `an answer alone ends nothing, the next signal does, in its words`() {
    var machine = InterruptMachine(farewell: "bye", overdue: "unknown")
    #expect(machine.take(SIGINT) == .begin)
    #expect(machine.giveUp() == .nothing)
    #expect(machine.done("it stops") == .nothing)
    #expect(machine.take(SIGINT) == .end(farewell: "it stops", code: 130))
  }

  @Test func `patience with what was begun is bounded`() {
    var machine = InterruptMachine(farewell: "bye", overdue: "unknown")
    #expect(machine.take(SIGTERM) == .begin)
    #expect(machine.take(SIGINT) == .wait)
    #expect(machine.giveUp() == .end(farewell: "unknown", code: 143))
  }
}
