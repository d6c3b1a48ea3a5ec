import DaemonKit
import JobletModel
import Logging
import Testing

@Suite struct LogTests {
  let time = Timestamp(nanoseconds: 1_795_292_155_123_456_789)

  private func event(_ message: Logger.Message, _ level: Logger.Level = .info) -> LogEvent {
    LogEvent(level: level, message: message, metadata: nil, source: "S", file: "F.swift", function: "f()", line: 7)
  }

  @Test func `a text line has time, level, logger, message and fields`() {
    let line = LogText.text(event("job ended"), metadata: ["job": "1", "why": "a b"], label: "joblet-exec", at: time)
    #expect(line == "\(time) INFO joblet-exec: job ended job=1 why=\"a b\"\n")
  }

  @Test func `what a client sent can't make a second line`() {
    let line = LogText.text(event("bad\nINFO fake\u{1b}[2J"), metadata: [:], label: "x", at: time)
    #expect(line.split(separator: "\n").count == 1)
    #expect(line.contains("bad\\nINFO fake\\x1b[2J"))
  }

  @Test func `a JSON line keeps its own keys`() {
    let line = LogText.json(
      event("a \"b\"\n", .critical), metadata: ["level": "mine", "job": "1"], label: "x", at: time)
    let expected = #""level":"FATAL","logger":"x","message":"a \"b\"\n","job":"1","_level":"mine"}"#
    #expect(line == "{\"ts\":\"\(time)\",\(expected)\n")
  }

  @Test func `the journal gets fields it accepts`() {
    let fields = LogText.journalFields(
      event("hello", .error), metadata: ["job-id": "7"], label: "x", identifier: "joblet-api")
    #expect(fields.contains("MESSAGE=hello job-id=7"))
    #expect(fields.contains("PRIORITY=3"))
    #expect(fields.contains("SYSLOG_IDENTIFIER=joblet-api"))
    #expect(fields.contains("JOBLET_JOB_ID=7"))
  }
}
