import Glibc
import RnxCommands
import Testing

@Suite(.serialized, .timeLimit(.minutes(1))) struct InterruptTests {
  /// Twice, as one verb has it: while a job is posted, and while it is followed.
  @Test(arguments: 1...2)
  func `ctrl-c is heard of, and begins what it should`(round: Int) async throws {
    let pressed = Promise<Int>()
    let interrupt = try Interrupt(farewell: "bye", action: .init(message: "stopping") { pressed.keep(round) })
    #expect(kill(getpid(), SIGINT) == 0)
    #expect(await pressed.value() == round)
    interrupt.restore()
  }
}
