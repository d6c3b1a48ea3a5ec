import JobletConfig
import Testing

/// What persist takes from the rest of the file, and what its own section says otherwise.
@Suite struct PersistSectionTests {
  func parse(_ yaml: String) throws -> Configuration { try Configuration.parse("version: \"3.0\"\n" + yaml, file: "t") }

  @Test func `persist logs as everyone does unless its section says otherwise`() throws {
    let inherited = try parse("logging: {level: WARN, format: json, output: /var/log/j.log}")
    #expect(inherited.persistLogging == inherited.logging)
    let own = try parse(
      "persist: {logging: {level: DEBUG, output: stderr}}\nlogging: {level: WARN, format: json, output: stdout}")
    #expect(own.persistLogging.level == .debug)
    #expect(own.persistLogging.format == .json)
    #expect(own.persistLogging.output == "stderr")
    #expect(own.logging.level == .warn && own.logging.output == "stdout")
  }

  @Test func `the environment's level goes before persist's own`() throws {
    let files = try LoadTests()
    defer { withExtendedLifetime(files) {} }
    let path = try files.write("version: \"3.0\"\npersist: {logging: {level: ERROR, format: json}}\n")
    #expect(try Configuration.load(path: path, environment: [:]).persistLogging.level == .error)
    let debug = try Configuration.load(path: path, environment: ["JOBLET_LOG_LEVEL": "debug"])
    #expect(debug.persistLogging.level == .debug && debug.persistLogging.format == .json)
  }

  @Test(arguments: [
    ("persist: {logging: {level: LOUD}}", "persist.logging.level"),
    ("persist: {logging: {format: xml}}", "persist.logging.format"),
    ("persist: {logging: {output: relative}}", "persist.logging.output"),
    ("persist: {logging: {colour: red}}", "persist.logging.colour"),
  ])
  func `a wrong setting is named with its section`(yaml: String, key: String) {
    #expect { try parse(yaml) } throws: { "\($0)".contains(key) }
  }

  @Test(arguments: [
    ("", "/opt/joblet"), ("filesystem: {baseDir: /data/joblet/jobs}", "/data/joblet"),
    ("filesystem: {baseDir: /data/joblet/jobs/}", "/data/joblet"), ("filesystem: {baseDir: /jobs}", "/opt/joblet"),
    ("filesystem: {baseDir: /data/joblet/jobs}\npersist: {storage: {base_dir: /var/lib/j}}", "/var/lib/j"),
  ])
  func `the base directory is the one the jobs' folder is in`(yaml: String, expected: String) throws {
    let storage = try parse(yaml).persist.storage
    #expect(storage.baseDir == expected)
    #expect(storage.local.logs.directory == expected + "/logs")
    #expect(storage.local.metrics.directory == expected + "/metrics")
  }

  @Test func `the seed's local section works as it is written there`() throws {
    let configuration = try parse(
      """
      server: {nodeId: "production-node-1", address: "0.0.0.0", port: 50051}
      joblet:
      persist:
        server: {grpc_socket: "/opt/joblet/run/persist-grpc.sock", max_connections: 500}
        ipc: {socket: "/opt/joblet/run/persist-ipc.sock", max_connections: 10, max_message_size: 134217728}
        storage:
          type: "local"
          base_dir: "/opt/joblet"
          local:
            logs: {directory: "/srv/logs", format: "jsonl.gz"}
            metrics: {directory: "/srv/metrics", format: "jsonl.gz"}
      logging: {level: "INFO", format: "text", output: "stdout"}
      ipc: {enabled: true, socket: "/opt/joblet/run/persist-ipc.sock", buffer_size: 10000, reconnect_delay: "5s", max_reconnects: 0}
      """)
    #expect(configuration.persist.storage.local.logs.directory == "/srv/logs")
    #expect(configuration.persist.storage.local.metrics.directory == "/srv/metrics")
    #expect(configuration.persist.server.querySocket == Configuration().persist.server.querySocket)
  }

  @Test func `a disabled persist's section is not looked at`() throws {
    let configuration = try parse("ipc: {enabled: false}\npersist: {storage: {type: floppy}, nonsense: 1}")
    #expect(!configuration.ipc.enabled && configuration.persist == Configuration().persist)
  }
}
