import FoundationEssentials
import Glibc
import JobletModel
import JobletWire
import LinuxKernel
import Logging
import Testing
import Worker

private let hasher = RunHasher(key: Array(repeating: 7, count: RunHasher.keyLength))

private func asking(
  _ key: String = "k", caller: String = "alice", _ request: JobRequest = JobRequest(command: "true")
) throws -> KeyedRequest {
  let caller = Caller(name: caller, role: .developer, requestID: "r")
  return try hasher.hashes(RunRequest(request: request, caller: caller, key: key), key: key)
}

private func time(_ seconds: Int64) -> BootTime { BootTime(nanoseconds: seconds * 1_000_000_000) }
private let day: Int64 = 24 * 3600

extension RunKeys {
  /// Asks for a key while no job lives any more.
  fileprivate mutating func claim(_ asked: KeyedRequest, at now: BootTime) throws -> JobID? {
    try claim(asked, at: now, lives: { _ in false })
  }
}

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

  /// What a table did with a new key.
  private enum Answer: Equatable { case started, known, refused(retryAfter: Int?) }

  /// Asks for a key and, if it is free, starts a job by it. - Returns: that job too.
  private func ask(
    _ keys: inout RunKeys, _ key: String, _ caller: String, at seconds: Int64, living: Set<JobID> = []
  ) throws -> (Answer, JobID) {
    let asked = try asking(key, caller: caller)
    do {
      if let job = try keys.claim(asked, at: time(seconds), lives: { living.contains($0) }) { return (.known, job) }
    } catch {
      #expect(error.kind == .tooManyJobs && error.kind.status == 429)
      return (.refused(retryAfter: error.retryAfter), .none)
    }
    defer { keys.release(asked) }
    let job = JobID(node: 1)
    keys.add(KeyedRun(asked, job: job, at: time(seconds)), at: time(seconds))
    return (.started, job)
  }

  /// Without this a caller's burst would push out the key of a request that is about to be sent again.
  @Test func aYoungKeyMakesNoRoom() throws {
    var keys = RunKeys(maxPerCaller: 3, maxInAll: 100)
    for (number, second) in [(1, 0), (2, 60), (3, 120)] as [(Int, Int64)] {
      same(try ask(&keys, "\(number)", "alice", at: second).0, .started)
    }
    same(try ask(&keys, "4", "alice", at: 890).0, .refused(retryAfter: 11))
    same(try ask(&keys, "1", "alice", at: 890).0, .known)
    same(try ask(&keys, "4", "bob", at: 890).0, .started)  // others have room
    same(try ask(&keys, "4", "alice", at: 900).0, .started)
    same(try ask(&keys, "1", "alice", at: 900).0, .refused(retryAfter: 61))  // forgotten, and there is no room again
    for key in ["2", "3", "4"] { same(try ask(&keys, key, "alice", at: 900).0, .known) }
    same(keys.count, 4)
  }

  @Test func theKeyOfAJobThatLivesMakesNoRoom() throws {
    var keys = RunKeys(maxPerCaller: 3, maxInAll: 100)
    var jobs: [JobID] = []
    for key in ["1", "2", "3"] { jobs.append(try ask(&keys, key, "alice", at: 0).1) }
    same(try ask(&keys, "4", "alice", at: 2000, living: Set(jobs)).0, .refused(retryAfter: 6))
    same(try ask(&keys, "4", "alice", at: 2000, living: Set(jobs[..<2])).0, .started)
    for (key, known) in [("1", true), ("2", true), ("3", false), ("4", true)] {
      let (answer, _) = try ask(&keys, key, "alice", at: 2001, living: Set(jobs))
      #expect((answer == .known) == known, "\(key): \(answer)")
    }
    // A day is a day, whoever lives.
    same(try ask(&keys, "1", "alice", at: day, living: Set(jobs)).0, .started)
  }

  @Test func allTogetherAreBounded() throws {
    var keys = RunKeys(maxPerCaller: 3, maxInAll: 5)
    for (number, caller) in [(1, "alice"), (2, "bob"), (3, "alice"), (4, "bob"), (5, "carol")] {
      same(try ask(&keys, "\(number)", caller, at: Int64(number)).0, .started)
    }
    same(try ask(&keys, "6", "dave", at: 100).0, .refused(retryAfter: 802))
    same(try ask(&keys, "6", "dave", at: 901).0, .started)  // in the place of the oldest, whosever it is
    same(try ask(&keys, "1", "alice", at: 901).0, .refused(retryAfter: 2))
    same(keys.count, 5)
    same(Set(keys.all.map(\.at)), Set([2, 3, 4, 5, 901].map { time($0) }))
    keys.expire(at: time(901 + day - 1))
    same(keys.count, 1)
  }

  @Test func requestsThatAreBeingAnsweredTakeTheirRoom() throws {
    var keys = RunKeys(maxPerCaller: 2, maxInAll: 3)
    let asked = try ["1", "2", "3"].map { try asking($0) }
    for first in asked[..<2] { same(try keys.claim(first, at: time(1)), nil) }
    #expect(throws: Problem.self) {
      var keys = keys; _ = try keys.claim(asked[2], at: time(1))
    }
    keys.release(asked[0])
    same(try keys.claim(asked[2], at: time(1)), nil)
    // Of all: one more.
    same(try keys.claim(try asking("1", caller: "bob"), at: time(1)), nil)
    #expect(throws: Problem.self) {
      var keys = keys; _ = try keys.claim(try asking("1", caller: "carol"), at: time(1))
    }
  }

  /// Nobody sets this clock, so such a time is of a file that outlived its boot.
  @Test func aTimeThatIsAheadIsOfNoUse() throws {
    var keys = RunKeys()
    keys.add(KeyedRun(try asking(), job: JobID(node: 1), at: time(101)), at: time(100))
    same(keys.count, 0)
    #expect(BootTime(nanoseconds: .min).age(at: BootTime(nanoseconds: .max)) > RunKeys.maxAge)
    #expect(BootTime.now() <= BootTime.now())
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

@Suite struct RunKeyStoreTests {
  private let logger = Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })

  /// `/run` was full: what is not in the file gets there when there is room, whatever comes meanwhile.
  @Test func whatCouldNotBeWrittenIsWrittenLater() throws {
    let directory = TemporaryDirectory()
    let path = directory.path + "/keys"
    var store = RunKeyStore()
    store.open(try RunKeyFile.open(path), adding: [])
    let runs = try (0..<4).map { KeyedRun(try asking("\($0)"), job: JobID(node: 1), at: .now()) }
    for run in runs { store.add(run) }
    store.keep(runs[0], logger: logger)
    same(try RunKeyFile.open(path).runs, [runs[0]])
    same(store.beginRewriting() == nil, true)
    // Neither can be opened for writing nor replaced by a file.
    #expect(unlink(path) == 0 && mkdir(path, 0o700) == 0)
    for run in runs[1...2] { store.keep(run, logger: logger) }
    holds(store.isBehind)
    let failing = store.beginRewriting()
    let first = try #require(failing)
    same(store.beginRewriting() == nil, true)
    holds(!store.endRewriting(Result { try first.write() }, logger: logger))
    holds(store.isBehind)
    #expect(rmdir(path) == 0)
    let next = store.beginRewriting()
    let second = try #require(next)
    // Its job's directory goes after the content was decided.
    let late = KeyedRun(try asking("late"), job: JobID(node: 1), at: .now())
    let written = Result { try second.write() }
    store.add(late)
    store.keep(late, logger: logger)
    holds(store.endRewriting(written, logger: logger))
    holds(!store.isBehind)
    same(Set(try RunKeyFile.open(path).runs), Set(runs + [late]))
    same(store.beginRewriting() == nil, true)
    // And it goes on behind that.
    store.keep(runs[3], logger: logger)
    same(try RunKeyFile.open(path).runs.count, 6)
  }

  /// It lacks nothing, but holds what is forgotten long since.
  @Test func aFileThatIsMostlyOldIsWrittenAnew() throws {
    let directory = TemporaryDirectory()
    let path = directory.path + "/keys"
    var file = try RunKeyFile.open(path).file
    let old = KeyedRun(try asking("old"), job: JobID(node: 1), at: BootTime(nanoseconds: -day * 1_000_000_000))
    let new = KeyedRun(try asking("new"), job: JobID(node: 1), at: .now())
    try file.replace(with: Array(repeating: old, count: 5000) + [new])
    var store = RunKeyStore()
    store.open(try RunKeyFile.open(path), adding: [])
    let begun = store.beginRewriting()
    let rewriting = try #require(begun)
    holds(store.endRewriting(Result { try rewriting.write() }, logger: logger))
    same(try RunKeyFile.open(path).runs, [new])
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

  /// Its file went, and with it the room for another one until the job's directory is gone.
  @Test func aKeyThatCouldNotBeWrittenIsWrittenLater() async throws {
    let node = try FakeNode()
    let supervisor = try node.supervisor { $0.isStoring = false }
    _ = try await supervisor.adopt()
    await supervisor.open()
    let keys = node.directory.path + "/keys"
    #expect(unlink(keys) == 0)
    let first = try #require(started(try await supervisor.run(asking("k"))))
    while access(keys, F_OK) != 0 { try await Task.sleep(for: .milliseconds(1)) }
    let next = try node.supervisor { $0.isStoring = false }
    _ = try await next.adopt()
    await next.open()
    #expect(replayed(try await next.run(asking("k")))?.0 == first.id)
    node.killInit()
  }

  /// Before megabytes of it are encoded and hashed.
  @Test func whatIsWrongIsRefusedWhateverTheKey() async throws {
    let node = try FakeNode()
    let supervisor = try node.supervisor()
    _ = try await supervisor.adopt()
    await supervisor.open()
    #expect(started(try await supervisor.run(asking("k"))) != nil)
    let wrong = await #expect(throws: Problem.self) { try await supervisor.run(asking("k", "")) }
    #expect(wrong?.kind == .invalidField)
    let name = String(repeating: "n", count: 257)
    let long = await #expect(throws: Problem.self) { try await supervisor.run(asking("k", caller: name)) }
    #expect(long?.kind == .badRequest && long?.detail.contains("256") == true)
    #expect(await supervisor.figures.counters.refused.values.reduce(0, +) == 2)
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
