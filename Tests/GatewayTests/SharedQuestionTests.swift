import Gateway
import JobletModel
import Synchronization
import Testing

@Suite(.timeLimit(.minutes(2))) struct SharedQuestionTests {
  /// Somebody who answers when he is told to.
  private final class Oracle: Sendable {
    let questions = SharedQuestions<Int, String>()
    private let state = Mutex<(asked: Int, waiting: [AsyncStream<String>.Continuation])>((0, []))

    var asked: Int { state.withLock { $0.asked } }

    /// What one of the many gets.
    func ask(_ question: Int, within limit: Duration = .seconds(60)) async throws -> String? {
      try await questions.answer(to: question, within: limit) {
        let (answers, continuation) = AsyncStream.makeStream(of: String.self)
        state.withLock {
          $0.asked += 1
          $0.waiting.append(continuation)
        }
        for await answer in answers {
          if answer.isEmpty { throw Problem(.unavailable, "asked in vain") }
          return answer
        }
        throw CancellationError()  // nothing else ends the stream
      }
    }

    /// Answers all who ask; an empty answer is a failure.
    func answer(_ text: String) {
      for continuation in state.withLock({ $0.waiting }) { continuation.yield(text) }
    }
  }

  private func until(_ what: String, _ isSo: () -> Bool) async throws {
    let deadline = ContinuousClock.now + .seconds(60)
    while !isSo() {
      try #require(ContinuousClock.now < deadline, "never came true: \(what)")
      try await Task.sleep(for: .milliseconds(1))
    }
  }

  /// One who asks, and nine who wait.
  private func crowd(_ oracle: Oracle) async throws -> [Task<String?, any Error>] {
    var tasks = [Task { try await oracle.ask(1) }]
    try await until("it is asked") { oracle.asked == 1 }
    for _ in 1...9 { tasks.append(Task { try await oracle.ask(1) }) }
    try await until("they wait") { oracle.questions.waiting == 9 }
    return tasks
  }

  @Test func `what many want to know is asked once`() async throws {
    let oracle = Oracle()
    let tasks = try await crowd(oracle)
    let other = Task { try await oracle.ask(2) }
    try await until("another question is asked") { oracle.asked == 2 }
    oracle.answer("yes")
    for task in tasks + [other] { #expect(try await task.value == "yes") }
    #expect(oracle.asked == 2 && oracle.questions.waiting == 0)
    // Who comes behind the answer asks anew.
    let late = Task { try await oracle.ask(1) }
    try await until("it is asked again") { oracle.asked == 3 }
    oracle.answer("no")
    #expect(try await late.value == "no")
  }

  @Test func `when the asker leaves another asks`() async throws {
    let oracle = Oracle()
    let tasks = try await crowd(oracle)
    tasks[0].cancel()
    await #expect(throws: CancellationError.self) { try await tasks[0].value }
    try await until("another asks") { oracle.asked == 2 && oracle.questions.waiting == 8 }
    oracle.answer("yes")
    for task in tasks.dropFirst() { #expect(try await task.value == "yes") }
  }

  @Test func `a failure is everybody's`() async throws {
    let oracle = Oracle()
    let tasks = try await crowd(oracle)
    oracle.answer("")
    for task in tasks { await #expect(throws: Problem.self) { try await task.value } }
    #expect(oracle.asked == 1)
  }

  @Test func `who waits can leave, or wait no longer`() async throws {
    let oracle = Oracle()
    let tasks = try await crowd(oracle)
    tasks[5].cancel()
    await #expect(throws: CancellationError.self) { try await tasks[5].value }
    #expect(try await oracle.ask(1, within: .milliseconds(1)) == nil)
    oracle.answer("yes")
    for index in [0, 1, 9] { #expect(try await tasks[index].value == "yes") }
    #expect(oracle.asked == 1)
  }
}
