import JobletConfig
import Testing

/// Parses a file of `version` and the given text.
func parse(_ text: String) throws -> Configuration {
  try Configuration.parse("version: \"3.0\"\n\(text)\n", file: "node.yml")
}

/// What a file that must be refused is refused with.
func refusal(_ text: String) -> String {
  do {
    _ = try parse(text)
    return "accepted"
  } catch {
    return "\(error)"
  }
}

@Suite struct ValueTests {
  @Test func `values of every kind arrive`() throws {
    let configuration = try parse(
      """
      server: {nodeId: node-1, address: "::1", port: 443, tls: {min_version: "1.2"}, timeouts: {idle: 5m, drain: 0}}
      joblet: {defaultCpuLimit: 150, jobTimeout: 2h, maxConcurrentJobs: 8}
      filesystem: {allowedMounts: [/usr, /opt/tools], tmpSize: 512KiB}
      isolation: {id_pool: "65536:131072", seccomp: strict, landlock: required, prepared: 0}
      ipc: {buffer_size: 20, reconnect_delay: 100ms}
      persist:
        wal: {fsync: always, max_size: 1GB}
        storage: {base_dir: /data, cloudwatch: {metric_dimensions: {Team: a, Stage: b}}}
      logging: {level: DEBUG, format: json, output: /var/log/joblet.log}
      security: {serverCert: "-----BEGIN CERTIFICATE-----\\nx", caCert: /etc/ca.pem}
      """)
    #expect(configuration.server.nodeID == "node-1")
    #expect(configuration.server.address == "::1")
    #expect(configuration.server.port == 443)
    #expect(configuration.server.tls.minVersion == "1.2")
    #expect(configuration.server.timeouts.idle == .seconds(300))
    #expect(configuration.server.timeouts.drain == .zero)
    #expect(configuration.joblet.defaultCPULimit == 150)
    #expect(configuration.joblet.jobTimeout == .seconds(7200))
    #expect(configuration.filesystem.allowedMounts == ["/usr", "/opt/tools"])
    #expect(configuration.filesystem.tmpSize == 512 << 10)
    #expect(configuration.isolation.idPool == .init(first: 65_536, count: 131_072))
    #expect(configuration.isolation.seccomp == "strict" && configuration.isolation.landlock == "required")
    #expect(configuration.isolation.prepared == 0)
    #expect(configuration.ipc.reconnectDelay == .milliseconds(100))
    #expect(configuration.persist.wal.fsync == .always)
    #expect(configuration.persist.wal.maxSize == 1_000_000_000)
    #expect(configuration.persist.storage.cloudwatch.metricDimensions == ["Team": "a", "Stage": "b"])
    #expect(configuration.logging.level == .debug)
    #expect(configuration.logging.output == "/var/log/joblet.log")
    #expect(configuration.security.serverCert.hasPrefix("-----BEGIN"))
  }

  @Test func `what the base directory holds moves with it`() throws {
    let moved = try parse("persist: {storage: {base_dir: /data, local: {metrics: {directory: /fast/metrics}}}}")
    #expect(moved.persist.storage.local.logs.directory == "/data/logs")
    #expect(moved.persist.storage.local.metrics.directory == "/fast/metrics")
  }

  @Test(arguments: [
    (
      "server: {port: 70000}",
      "node.yml:2: server.port: '70000' is not allowed; allowed: a whole number from 1 to 65535"
    ),
    ("server:\n  prot: 1", "node.yml:3: server.prot: unknown key; did you mean port?"),
    ("server: {node_id: a}", "node.yml:2: server.node_id: unknown key; did you mean nodeId?"),
    ("perist: {}", "node.yml:2: perist: unknown key; did you mean persist?"),
    ("metrics: {zzzzzzzz: 1}", "node.yml:2: metrics.zzzzzzzz: unknown key; known here: interval"),
    ("server: 5", "node.yml:2: server: must be a section of keys, not a single value"),
    ("server: {port: [1]}", "node.yml:2: server.port: is a list; allowed: a whole number from 1 to 65535"),
    ("logging: {level: LOUD}", "node.yml:2: logging.level: 'LOUD' is not allowed; allowed: DEBUG, INFO, WARN, ERROR"),
    ("ipc: {enabled: maybe}", "node.yml:2: ipc.enabled: 'maybe' is not allowed; allowed: true, false"),
    (
      "server: {address: example.org}",
      "node.yml:2: server.address: 'example.org' is not allowed; allowed: an IPv4 or IPv6 address"
    ),
    (
      "network: {default_network: bridge}",
      "node.yml:2: network.default_network: 'bridge' is not allowed; allowed: none"
    ),
    (
      "filesystem: {baseDir: ../x}",
      "node.yml:2: filesystem.baseDir: '../x' is not allowed; allowed: an absolute path without '..'"
    ),
    ("filesystem: {allowedMounts: [/usr, /usr/../etc]}", "allowed: a list of absolute paths without '..'"),
    ("persist: {storage: {type: s3}}", "'s3' is not in this version; allowed: local"),
    ("persist: {storage: {cloudwatch: {log_retention_days: 8}}}", "allowed: -1, 0, 1, 3, 5, 7, 14"),
    ("isolation: {id_pool: '1000:65536'}", "isolation.id_pool"),
    ("metrics: {interval: 5}", "metrics.interval: '5' is not allowed; allowed: a whole number and a unit"),
    ("filesystem: {tmpSize: -1}", "filesystem.tmpSize: '-1' is not allowed"),
    (
      "persist: {ipc: {socket: /a.sock}}",
      "persist.ipc.socket: is '/a.sock' but ipc.socket is '/opt/joblet/run/persist-ipc.sock'"
    ),
    ("security: {serverKey: relative.pem}", "security.serverKey"),
  ])
  func `a wrong value names file, line, key and what is allowed`(text: String, message: String) {
    #expect(refusal(text).contains(message))
  }

  @Test func `all problems are told at once, in the order of the file`() {
    let lines = refusal("server:\n  port: x\nlogging:\n  level: y\nfoo: 1").split(separator: "\n")
    #expect(lines.count == 3)
    #expect(lines.map { $0.prefix(11) } == ["node.yml:3:", "node.yml:5:", "node.yml:6:"])
  }

  @Test(arguments: [
    "", "# nothing", "version: \"2.0\"", "server: {}", "[]", "a: [", "version: \"3.0\"\nversion: \"3.0\"", "\u{0}",
    "version: 3.0\n\t- x",
  ])
  func `what is no such file is refused with words`(yaml: String) {
    #expect {
      try Configuration.parse(yaml, file: "node.yml")
    } throws: { error in
      "\(error)".hasPrefix("node.yml") && "\(error)".count > 12
    }
  }

  @Test func `the version may be written as a number, as YAML users do`() throws {
    #expect(try Configuration.parse("version: 3.0", file: "f") == Configuration())
  }

  @Test func `with ipc off persist is not looked at`() throws {
    let off = try parse("ipc: {enabled: false}\npersist: {whatever: [1]}")
    #expect(!off.ipc.enabled)
    #expect(off.persist == Configuration().persist)
  }

  @Test func `older names work and warn`() throws {
    let same = try parse("persist: {server: {grpc_socket: /opt/joblet/run/persist-grpc.sock}}")
    #expect(same == Configuration() && same.origin.warnings.isEmpty)
    let moved = try parse("persist: {server: {grpc_socket: /run/q.sock}}")
    #expect(moved.persist.server.querySocket == "/run/q.sock")
    #expect(moved.origin.warnings.count == 1)
    let both = try parse("persist: {server: {grpc_socket: /run/old.sock, query_socket: /run/new.sock}}")
    #expect(both.persist.server.querySocket == "/run/new.sock")
    let prefix = try parse("persist: {storage: {cloudwatch: {log_stream_prefix: x}}}")
    #expect(prefix.origin.warnings.first?.contains("log_stream_prefix") == true)
  }
}
