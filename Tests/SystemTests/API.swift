import Foundation

/// A job's record as `openapi/joblet.yaml` shows it. Decoded here anew, so that a change of the contract breaks a test.
struct Job: Decodable {
  var id: String
  var name: String?
  var command: String
  var args: [String]
  var env: [String: String]
  var secretEnv: [String: String]
  var timeout: String?
  var status: String
  var exitCode: Int?
  var signal: Int?
  var reason: String?
  var message: String?
  var createdAt: String
  var startedAt: String?
  var endedAt: String?
  var owner: String
  var version: Int
  var lastSeq: Int?
  var usage: Usage?
  var limits: Limits?

  struct Usage: Decodable {
    var cpuUsec: Int?
    var memoryPeakBytes: Int?
  }
  struct Limits: Decodable {
    var cpuPercent: Int?
    var memoryMb: Int?
    var pids: Int?
  }

  var isEnded: Bool { ["COMPLETED", "FAILED", "STOPPED", "CANCELED"].contains(status) }
}

/// RFC 9457.
struct ProblemReply: Decodable {
  var type: String
  var title: String
  var status: Int
  var detail: String
}

struct LogLine: Decodable, Equatable {
  var seq: Int
  var ts: String
  var stream: String
  var line: String?
  var b64: String?
  var partial: Bool?

  var bytes: Data {
    if let line { return Data(line.utf8) }
    return b64.flatMap { Data(base64Encoded: $0) } ?? Data()
  }
}

struct Reply {
  var status: Int
  /// Names in lower case.
  var headers: [String: String]
  var body: Data
  var errors: String

  func decode<T: Decodable>(_ type: T.Type) throws -> T {
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    do {
      return try decoder.decode(type, from: body)
    } catch {
      throw TimedOut(
        description:
          "HTTP \(status): not a \(type): \(String(decoding: body.prefix(2000), as: UTF8.self)) \(errors): \(error)")
    }
  }

  var text: String { String(decoding: body, as: UTF8.self) }
}

/// A client's key and certificates, taken out of the `rnx-config.yml` that `joblet-certs` made: what a user gives to curl.
struct ClientFiles {
  var directory: String
  var arguments: [String] {
    ["--cacert", "\(directory)/ca.pem", "--cert", "\(directory)/cert.pem", "--key", "\(directory)/key.pem"]
  }

  init(directory: String) { self.directory = directory }

  init(config: String) throws {
    directory = NSTemporaryDirectory() + "joblet-client-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    let text = try String(contentsOfFile: config, encoding: .utf8)
    for (key, file) in [("cert", "cert.pem"), ("key", "key.pem"), ("ca", "ca.pem")] {
      guard let pem = ClientFiles.block(key, in: text), pem.contains("-----BEGIN") else {
        throw TimedOut(description: "\(config) has no PEM block '\(key)'")
      }
      let path = "\(directory)/\(file)"
      try pem.write(toFile: path, atomically: true, encoding: .utf8)
      chmod(path, 0o600)
    }
  }

  /// The lines of a YAML literal block, `key: |`.
  static func block(_ key: String, in text: String) -> String? {
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
    guard
      let start = lines.firstIndex(where: {
        let line = $0.drop { $0 == " " || $0 == "-" }
        return line.hasPrefix("\(key): |") || line.hasPrefix("\"\(key)\": |")
      })
    else { return nil }
    let indent = lines[start].prefix { $0 == " " }.count
    let body = lines[(start + 1)...].prefix { $0.isEmpty || $0.prefix { $0 == " " }.count > indent }
    return body.map { $0.trimmingCharacters(in: .whitespaces) }.filter { !$0.isEmpty }.joined(separator: "\n") + "\n"
  }
}

/// Plain curl with a client certificate, as the README tells people to use it.
struct API {
  var files: ClientFiles?
  var ca: String?

  init(role: String? = nil) throws {
    files = try ClientFiles(config: role.map { Installed.clientConfig(role: $0) } ?? Installed.clientConfig)
  }

  init(files: ClientFiles) { self.files = files }

  var arguments: [String] { ["curl", "-sS", "--max-time", "170"] + (files?.arguments ?? []) }

  func call(
    _ method: String, _ path: String, body: String? = nil, headers: [String] = [], extra: [String] = []
  ) async throws -> Reply {
    let head = NSTemporaryDirectory() + "joblet-head-\(UUID().uuidString)"
    defer { unlink(head) }
    var arguments = arguments + ["-X", method, "-D", head] + extra
    for header in headers { arguments += ["-H", header] }
    if body != nil { arguments += ["-H", "Content-Type: application/json", "--data-binary", "@-"] }
    let output = try await Shell.run(arguments + [Installed.api + path], input: body)
    let raw = (try? String(contentsOfFile: head, encoding: .utf8)) ?? ""
    let lines = raw.split(whereSeparator: \.isNewline).map(String.init)
    guard let first = lines.last(where: { $0.hasPrefix("HTTP/") }) else {
      return Reply(status: 0, headers: [:], body: output.bytes, errors: "curl exit \(output.status): \(output.errors)")
    }
    var fields: [String: String] = [:]
    for line in lines {
      guard let colon = line.firstIndex(of: ":") else { continue }
      fields[line[..<colon].lowercased()] = line[line.index(after: colon)...].trimmingCharacters(in: .whitespaces)
    }
    let status = first.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0
    return Reply(status: status, headers: fields, body: output.bytes, errors: output.errors)
  }

  func get(_ path: String, accept: String? = nil) async throws -> Reply {
    try await call("GET", path, headers: accept.map { ["Accept: \($0)"] } ?? [])
  }

  /// Posts a job that must be accepted.
  func run(
    _ command: String, _ args: [String] = [], fields: [String: Any] = [:]
  ) async throws -> Job {
    var body: [String: Any] = ["command": command, "args": args]
    body.merge(fields) { _, new in new }
    let data = try JSONSerialization.data(withJSONObject: body)
    let reply = try await call("POST", "/v1/jobs", body: String(decoding: data, as: UTF8.self))
    guard reply.status == 201 else {
      throw TimedOut(description: "POST: \(reply.status) \(reply.text) \(reply.errors)")
    }
    return try reply.decode(Job.self)
  }

  /// Posts a shell script as a job that must be accepted.
  func sh(_ script: String, fields: [String: Any] = [:]) async throws -> Job {
    try await run("sh", ["-c", script], fields: fields)
  }

  func job(_ id: String) async throws -> Job {
    let reply = try await get("/v1/jobs/\(id)")
    guard reply.status == 200 else {
      throw TimedOut(description: "GET job: \(reply.status) \(reply.text)\(reply.errors)")
    }
    return try reply.decode(Job.self)
  }

  func ended(_ id: String, within limit: Duration = .seconds(180)) async throws -> Job {
    try await eventually("job \(id) ended", within: limit, pause: .milliseconds(200)) {
      let job = try await job(id)
      return job.isEnded ? job : nil
    }
  }

  func running(_ id: String) async throws {
    try await eventually("job \(id) runs") {
      let job = try await job(id)
      if job.isEnded { throw TimedOut(description: "the job ended before it was to: \(job)") }
      return job.status == "RUNNING"
    }
  }

  /// A job's output, byte for byte.
  func text(_ id: String, _ query: String = "") async throws -> Data {
    let reply = try await get("/v1/jobs/\(id)/logs\(query)", accept: "text/plain")
    guard reply.status == 200 else { throw TimedOut(description: "logs: \(reply.status) \(reply.text)\(reply.errors)") }
    return reply.body
  }

  func lines(_ id: String, _ query: String = "") async throws -> [LogLine] {
    let reply = try await get("/v1/jobs/\(id)/logs\(query)", accept: "application/x-ndjson")
    guard reply.status == 200 else { throw TimedOut(description: "logs: \(reply.status) \(reply.text)\(reply.errors)") }
    return try reply.body.split(separator: 0x0A).map { try JSONDecoder().decode(LogLine.self, from: Data($0)) }
  }

  /// Runs a script to its end.
  func finish(_ script: String, fields: [String: Any] = [:]) async throws -> (job: Job, stdout: String, stderr: String)
  {
    let job = try await ended(try await sh(script, fields: fields).id)
    let stdout = String(decoding: try await text(job.id, "?stream=stdout"), as: UTF8.self)
    let stderr = String(decoding: try await text(job.id, "?stream=stderr"), as: UTF8.self)
    return (job, stdout, stderr)
  }

  /// A follower in the background.
  func follow(_ id: String, query: String = "", headers: [String] = [], extra: [String] = []) throws -> Follower {
    try stream("/v1/jobs/\(id)/logs?follow=true" + query, headers: headers, extra: extra)
  }

  /// Any stream of events, in the background.
  func stream(_ path: String, headers: [String] = [], extra: [String] = []) throws -> Follower {
    var arguments = ["curl", "-sS", "-N", "--max-time", "600"] + (files?.arguments ?? []) + extra
    for header in ["Accept: text/event-stream"] + headers { arguments += ["-H", header] }
    return Follower(program: try RunningProgram(arguments + [Installed.api + path]))
  }
}

/// A Server-Sent Events stream as it comes in (WHATWG HTML, "event stream interpretation").
struct Follower {
  struct Event {
    var name: String
    var id: String?
    var data: String
  }

  var program: RunningProgram

  /// The events that are complete so far.
  func events() throws -> [Event] { Follower.parse(try program.text()) }

  static func parse(_ text: String) -> [Event] {
    text.components(separatedBy: "\n\n").dropLast().compactMap { block in
      var event = Event(name: "message", id: nil, data: "")
      var hasData = false
      for line in block.split(separator: "\n") {
        if line.hasPrefix(":") { continue }
        let parts = line.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
        let value = parts.count > 1 ? String(parts[1].hasPrefix(" ") ? parts[1].dropFirst() : parts[1]) : ""
        switch parts[0] {
        case "event": event.name = value
        case "id": event.id = value
        case "data":
          event.data += (hasData ? "\n" : "") + value
          hasData = true
        default: break
        }
      }
      return hasData ? event : nil
    }
  }

  /// Waits until a log line with exactly this text came.
  func sees(_ line: String) async throws {
    try await eventually("the follower reads '\(line)'") {
      try logLines().contains { $0.line == line }
    }
  }

  func logLines() throws -> [LogLine] {
    try events().filter { $0.name == "log" }.map { try JSONDecoder().decode(LogLine.self, from: Data($0.data.utf8)) }
  }

  /// Waits for the stream's own end.
  func finished(within limit: Duration = .seconds(300)) async throws -> [Event] {
    let status = try await program.wait(within: limit)
    let events = try events()
    guard status == 0 else {
      throw TimedOut(
        description:
          "the follower's curl ended with \(status): \(try program.text("stderr")); last: \(events.suffix(3))")
    }
    return events
  }
}
