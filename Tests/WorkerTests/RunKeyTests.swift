import FoundationEssentials
import Glibc
import JobletModel
import JobletWire
import LinuxKernel
import Testing
import Worker

private let hasher = RunHasher(key: Array(repeating: 7, count: RunHasher.keyLength))

private func asking(
  _ key: String = "k", caller: String = "alice", _ request: JobRequest = JobRequest(command: "true")
) throws -> KeyedRequest {
  let caller = Caller(name: caller, role: .developer, requestID: "r")
  return try hasher.hashes(RunRequest(request: request, caller: caller, key: key), key: key)
}

private func time(_ seconds: Int64) -> Timestamp { Timestamp(nanoseconds: seconds * 1_000_000_000) }
private let day: Int64 = 24 * 3600

@Suite struct RunKeyTests {
  @Test func aKeyStartsOneJob() throws {
    var keys = RunKeys()
    let asked = try asking()
    same(try keys.claim(asked, at: time(100)), nil)
    // The first is under way: neither a second job nor an answer.
    let busy = #expect(throws: Problem.self) {
      var keys = keys; _ = try keys.claim(asked, at: time(100))
    }
    #expect(busy?.kind == .keyInUse && busy?.kind.status == 409 && busy?.retryAfter == 1)
    keys.release(asked)
    // It was refused: the key is free, for another request too.
    let other = try asking("k", JobRequest(command: "false"))
    same(try keys.claim(other, at: time(100)), nil)
    let job = JobID(node: 1)
    keys.add(KeyedRun(other, job: job, at: time(100)), at: time(100))
    keys.release(other)
    same(try keys.claim(other, at: time(100 + day - 1)), job)
    let reused = #expect(throws: Problem.self) {
      var keys = keys; _ = try keys.claim(asked, at: time(200))
    }
    #expect(reused?.kind == .keyReused && reused?.kind.status == 422 && reused?.detail.contains("\(job)") == true)
    // Another caller's key of the same name is another key.
    same(try keys.claim(try asking("k", caller: "bob"), at: time(200)), nil)
    // After a day it is free again.
    same(try keys.claim(asked, at: time(100 + day)), nil)
    same(keys.count, 0)
  }

  @Test func aCallerForgetsItsOwnOldest() throws {
    var keys = RunKeys(maxPerCaller: 3, maxInAll: 5)
    func add(_ number: Int, _ caller: String) throws {
      let run = KeyedRun(try asking("\(number)", caller: caller), job: JobID(node: 1), at: time(Int64(number)))
      keys.add(run, at: time(100))
    }
    func isKnown(_ number: Int, _ caller: String) throws -> Bool {
      var copy = keys
      return try copy.claim(try asking("\(number)", caller: caller), at: time(100)) != nil
    }
    for number in 1...5 { try add(number, "alice") }
    try add(6, "bob")
    for (number, known) in [(1, false), (2, false), (3, true), (4, true), (5, true)] {
      #expect(try isKnown(number, "alice") == known)
    }
    // All together are bounded too: the oldest goes, whosever it is.
    try add(7, "bob")
    try add(8, "bob")
    same(keys.count, 5)
    #expect(try !isKnown(3, "alice") && isKnown(4, "alice") && isKnown(6, "bob"))
    same(Set(keys.all.map(\.at)), Set([4, 5, 6, 7, 8].map { time($0) }))
    keys.expire(at: time(7 + day))
    same(keys.count, 1)
  }

  @Test func hashesTellRequestsApartAndNothingElse() throws {
    let many = Dictionary(uniqueKeysWithValues: (0..<50).map { ("V\($0)", "\($0)") })
    let request = JobRequest(command: "sh", env: many, secretEnv: ["A": "secret", "B": "x"])
    let first = try asking("k", request)
    // A dictionary of another order is the same request.
    var again = request
    again.env = [:]
    for name in many.keys.sorted() { again.env[name] = many[name] }
    #expect(try asking("k", again) == first)
    again.secretEnv["A"] = "Secret"
    #expect(try asking("k", again).request != first.request)
    #expect(try asking("l", request).key != first.key)
    #expect(try asking("k", caller: "bob", request).key != first.key)
    let caller = Caller(name: "alice", role: .developer, requestID: "r")
    let elsewhere = try RunHasher(key: RunHasher.randomKey()).hashes(
      RunRequest(request: request, caller: caller, key: "k"), key: "k")
    #expect(elsewhere.request != first.request && elsewhere.key != first.key && elsewhere.caller != first.caller)
    for text in ["", String(repeating: "x", count: 256)] {
      #expect(throws: Problem.self) { try asking(text) }
    }
  }

  @Test func theFileGoesOnBehindWhatIsWhole() throws {
    let directory = TemporaryDirectory()
    let path = directory.path + "/keys"
    var file = try RunKeyFile.open(path).file
    let runs = try (1...3).map { KeyedRun(try asking("\($0)"), job: JobID(node: 1), at: time(Int64($0))) }
    for run in runs { try file.append(run) }
    same(try RunKeyFile.open(path).runs, runs)
    // Killed in the middle of a write.
    let torn = try FileDescriptor.open(path, O_WRONLY | O_APPEND)
    try torn.writeAll(Array(repeating: 1, count: 30))
    var content = try RunKeyFile.open(path)
    same(content.runs, runs)
    #expect(!content.wasDamaged)
    try content.file.append(runs[0])
    same(try RunKeyFile.open(path).runs, runs + [runs[0]])
    try content.file.replace(with: [runs[2]])
    content = try RunKeyFile.open(path)
    same(content.runs, [runs[2]])
    // The key stays: what was hashed before is still found.
    let caller = Caller(name: "alice", role: .developer, requestID: "r")
    let run = RunRequest(request: JobRequest(command: "true"), caller: caller, key: "1")
    let hashes = try content.hasher.hashes(run, key: "1")
    #expect(try RunKeyFile.open(path).hasher.hashes(run, key: "1") == hashes)
    try FileDescriptor.open(path, O_WRONLY | O_TRUNC).writeAll(Array("nonsense".utf8))
    content = try RunKeyFile.open(path)
    #expect(content.wasDamaged && content.runs.isEmpty)
    #expect(try !RunKeyFile.open(path).wasDamaged)
  }

  @Test func whateverBytesAreRead() {
    var state: UInt64 = 5
    func next() -> UInt64 {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return state >> 33
    }
    for _ in 0..<2000 {
      var bytes = next() % 4 == 0 ? [] : Array("JLKEYS1\n".utf8)
      bytes += (0..<Int(next() % 400)).map { _ in next() % 3 == 0 ? 0 : UInt8(truncatingIfNeeded: next()) }
      if let content = RunKeyFile.read(bytes) {
        let whole = content.runs.flatMap(\.encoded)
        #expect(bytes.dropFirst(40).starts(with: whole))
      } else {
        #expect(bytes.count < 40 || !bytes.starts(with: "JLKEYS1\n".utf8))
      }
    }
  }
}

/// Through the supervisor: a key outlives its job's end and every exec.
@Suite(.serialized, .timeLimit(.minutes(2))) struct RunKeySupervisorTests {
  private func asking(_ key: String, _ command: String = "true", caller: String = "c") -> RunRequest {
    RunRequest(
      request: JobRequest(command: command, secretEnv: ["S": "hunter2"]),
      caller: Caller(name: caller, role: .developer, requestID: "r"), key: key)
  }

  private func started(_ answer: JobSupervisor.RunAnswer) -> JobRecord? {
    if case .started(let record) = answer { record } else { nil }
  }

  private func replayed(_ answer: JobSupervisor.RunAnswer) -> (JobID, JobRecord?)? {
    if case .replayed(let job, let record) = answer { (job, record) } else { nil }
  }

  @Test func aSecondRequestStartsNothing() async throws {
    let node = try FakeNode()
    let supervisor = try node.supervisor()
    _ = try await supervisor.adopt()
    await supervisor.open()
    let first = try #require(started(try await supervisor.run(asking("k"))))
    let again = try #require(replayed(try await supervisor.run(asking("k"))))
    #expect(again.0 == first.id && again.1?.id == first.id)
    let problem = await #expect(throws: Problem.self) { try await supervisor.run(asking("k", "false")) }
    #expect(problem?.kind == .keyReused && problem?.detail.contains("hunter2") == false)
    #expect(started(try await supervisor.run(asking("k", caller: "d"))) != nil)
    #expect(started(try await supervisor.run(asking("l"))) != nil)
    #expect(try JobStateDirectory.jobs(root: node.directory.path + "/jobs").count == 4)
    // Killed now, whatever was going on: the next one knows.
    let next = try node.supervisor()
    _ = try await next.adopt()
    await next.open()
    let later = try #require(replayed(try await next.run(asking("k"))))
    #expect(later.0 == first.id && later.1?.id == first.id)
    #expect(try JobStateDirectory.jobs(root: node.directory.path + "/jobs").count == 4)
    node.killInit()
  }

  /// Its state directory goes when it is settled.
  @Test func aKeyOutlivesItsJobsStateDirectory() async throws {
    let node = try FakeNode()
    let supervisor = try node.supervisor { $0.isStoring = false }
    _ = try await supervisor.adopt()
    await supervisor.open()
    let first = try #require(started(try await supervisor.run(asking("k"))))
    let state = JobStateDirectory(root: node.directory.path + "/jobs", job: first.id)
    while access(state.path, F_OK) == 0 { try await Task.sleep(for: .milliseconds(1)) }
    let again = try #require(replayed(try await supervisor.run(asking("k"))))
    #expect(again.0 == first.id && again.1?.status == .failed)
    let next = try node.supervisor { $0.isStoring = false }
    _ = try await next.adopt()
    await next.open()
    // The record went with the exec that had it.
    let later = try #require(replayed(try await next.run(asking("k"))))
    #expect(later.0 == first.id && later.1 == nil)
    // Deleted, it still has been run.
    await #expect(throws: Problem.self) { try await next.delete(first.id) }
    #expect(replayed(try await next.run(asking("k")))?.0 == first.id)
    node.killInit()
  }

  @Test func aRefusalFreesTheKey() async throws {
    let node = try FakeNode()
    let supervisor = try node.supervisor()
    _ = try await supervisor.adopt()
    await supervisor.open()
    for _ in 0..<2 {
      let problem = await #expect(throws: Problem.self) { try await supervisor.run(asking("k", "")) }
      #expect(problem?.kind == .invalidField)
    }
    #expect(started(try await supervisor.run(asking("k"))) != nil)
    node.killInit()
  }

  /// Admitted at once and many times over: one job, and whoever was not first is told so.
  @Test func ofManyAtOnceOneStarts() async throws {
    let node = try FakeNode()
    let supervisor = try node.supervisor()
    _ = try await supervisor.adopt()
    await supervisor.open()
    let run = asking("k")
    let ids = try await withThrowingTaskGroup(of: JobID?.self) { group in
      for _ in 0..<20 {
        group.addTask {
          do {
            switch try await supervisor.run(run) {
            case .started(let record): return record.id
            case .replayed(let job, _): return job
            }
          } catch let problem as Problem where problem.kind == .keyInUse {
            return nil
          }
        }
      }
      return try await group.reduce(into: Set<JobID>()) { if let id = $1 { $0.insert(id) } }
    }
    same(ids.count, 1)
    #expect(try JobStateDirectory.jobs(root: node.directory.path + "/jobs").count == 2)
    node.killInit()
  }

  // MARK: What a restart finds

  /// A job's state directory whose job can't be adopted, with a key that `asking("k")` has.
  /// - Parameter record: its record's bytes; nil as after a crash before it was written.
  private func leave(_ node: FakeNode, record: String?) throws -> JobStateDirectory {
    let id = JobID(node: 3)
    let state = JobStateDirectory(root: node.directory.path + "/jobs", job: id)
    let asked = try RunKeyFile.open(node.directory.path + "/keys").hasher.hashes(asking("k"), key: "k")
    try state.create(
      request: JobRequest(command: "true"), record: Array((record ?? "").utf8),
      key: KeyedRun(asked, job: id, at: .now()))
    if record == nil { unlink(state.path + "/record") }
    return state
  }

  /// One that was cut off while it was admitted never was: whoever asks again gets a job. One that was admitted ran, whatever
  /// has become of its record.
  @Test(arguments: [nil, "no JSON"]) func theKeyOfABrokenJobIsKeptIfItWasAdmitted(_ record: String?) async throws {
    let node = try FakeNode()
    let state = try leave(node, record: record)
    let supervisor = try node.supervisor()
    _ = try await supervisor.adopt()
    await supervisor.open()
    let answer = try await supervisor.run(asking("k"))
    if record == nil {
      #expect(started(answer) != nil)
    } else {
      #expect(replayed(answer)?.0 == JobID(state.path.split(separator: "/").last ?? ""))
    }
    node.killInit()
  }

  /// The one key may be lost; the job that runs must not be.
  @Test(arguments: ["short", "a link", "a folder"]) func aDamagedKeyEndsNoJob(_ damage: String) async throws {
    let node = try FakeNode()
    let path = node.state.path + "/key"
    switch damage {
    case "short": try FileDescriptor.open(path, O_WRONLY | O_CREAT, mode: 0o600).writeAll([1, 2, 3])
    case "a link": #expect(symlink("/dev/null", path) == 0)
    default: #expect(mkdir(path, 0o700) == 0)
    }
    #expect(throws: KeyFileDamage.self) { try node.state.loadKey() }
    let supervisor = try node.supervisor()
    same(try await supervisor.adopt(), 1)
    #expect(try await supervisor.status(node.job).status == .running)
    node.killInit()
  }
}
