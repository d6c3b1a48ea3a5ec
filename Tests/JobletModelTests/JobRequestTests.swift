import FoundationEssentials
import JobletModel
import Testing

@Suite struct JobRequestTests {
  static func decode(_ json: String) throws -> JobRequest {
    try JSONDecoder().decode(JobRequest.self, from: Data(json.utf8))
  }

  @Test func readsTheWholeForm() throws {
    let request = try Self.decode(
      #"{"command":"sh","args":["-c","true"],"env":{"A":"1"},"secret_env":{"B":"2"},"limits":{"cpu_percent":50,"cpu_weight":200,"cpu_cores":"0-3,6","memory_mb":64,"memory_high_mb":64,"io_bps":1048576,"pids":32},"timeout":"30s","seccomp":"strict"}"#
    )
    #expect(try request.validate() == .seconds(30))
    #expect(
      request.limits
        == Limits(
          cpuPercent: 50, cpuWeight: 200, cpuCores: "0-3,6", memoryMB: 64, memoryHighMB: 64, ioBps: 1 << 20, pids: 32))
    #expect(request.seccomp == "strict")
    let record = JobRecord(
      id: JobID(node: 1), request: request, status: .queued, createdAt: .now(), nodeID: "n", owner: "o")
    let json = String(decoding: try JSONEncoder().encode(record), as: UTF8.self)
    #expect(json.contains(#""secret_env":{"B":"***"}"#))
    #expect(!json.contains("exit_code"))
  }

  @Test(arguments: [
    (#"{"command":"sh","cmd":"x"}"#, "cmd"),
    (#"{"command":"sh","limits":{"memory":5}}"#, "limits.memory"),
  ])
  func refusesUnknownFields(json: String, field: String) {
    #expect {
      _ = try Self.decode(json)
    } throws: { error in
      (error as? ValidationError)?.field == field && "\(error)".contains("known here")
    }
  }

  @Test(arguments: [
    (#"{"command":""}"#, "command", "must not be empty"),
    (#"{"command":"a\u0000b"}"#, "command", "NUL"),
    (#"{"command":"a","limits":{"pids":0}}"#, "limits.pids", "1 to 4194304"),
    (#"{"command":"a","limits":{"cpu_percent":100001}}"#, "limits.cpu_percent", "1 to 100000"),
    (#"{"command":"a","limits":{"memory_mb":-1}}"#, "limits.memory_mb", "1 to 16777216"),
    (#"{"command":"a","limits":{"cpu_weight":0}}"#, "limits.cpu_weight", "1 to 10000"),
    (#"{"command":"a","limits":{"memory_high_mb":0}}"#, "limits.memory_high_mb", "1 to 16777216"),
    (#"{"command":"a","limits":{"memory_mb":5,"memory_high_mb":6}}"#, "limits.memory_high_mb", "over limits.memory_mb"),
    (#"{"command":"a","limits":{"io_bps":4095}}"#, "limits.io_bps", "4096 to 1125899906842624"),
    (#"{"command":"a","limits":{"cpu_cores":"3-1"}}"#, "limits.cpu_cores", "reversed"),
    (#"{"command":"a","seccomp":"none"}"#, "seccomp", "strict, default, compat"),
    (#"{"command":"a","timeout":"soon"}"#, "timeout", "30s"),
    (#"{"command":"a","timeout":"0"}"#, "timeout", "1ms to 365d"),
    (#"{"command":"a","env":{"A=B":"x"}}"#, "env.A=B", "'='"),
    (#"{"command":"a","env":{"A":"x"},"secret_env":{"A":"y"}}"#, "secret_env.A", "one of them"),
    (#"{"command":"a","name":""}"#, "name", "1 to 128"),
  ])
  func refusesWrongValues(json: String, field: String, part: String) throws {
    let request = try Self.decode(json)
    #expect {
      try request.validate()
    } throws: { error in
      (error as? ValidationError)?.field == field && "\(error)".contains(part)
    }
  }

  @Test(arguments: [("Admin", Role.admin), ("VIEWER", .reader), ("developer", .developer), ("node", .node)])
  func rolesFromUnits(unit: String, role: Role) {
    #expect(Role(organizationalUnit: unit) == role)
  }

  @Test func rolesGrowByRank() {
    #expect(Role(organizationalUnit: "root") == nil)
    #expect(Role.reader.operations.isStrictSubset(of: Role.developer.operations))
    #expect(Role.developer.operations.isStrictSubset(of: Role.maintainer.operations))
    #expect(Role.maintainer.operations.isStrictSubset(of: Role.admin.operations))
    #expect(!Role.reader.operations.contains(.runJob))
  }
}
