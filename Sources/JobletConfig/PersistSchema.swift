import JobletModel

/// The schema of `persist:` and `state:`.
extension Configuration.Persist {
  /// - Parameter filesystem: read before; the base directory is inherited from it.
  mutating func read(
    _ section: inout SectionReader, ipc main: Configuration.IPC, filesystem: Configuration.Filesystem
  ) {
    section.section("server") { section in
      section.socketPath("query_socket", into: &server.querySocket)
      section.socketPath("grpc_socket", into: &server.grpcSocket)
      // The older name alone says where the query socket is; the default one stays what it was, a symlink to it.
      if section.has("grpc_socket"), !section.has("query_socket"), server.grpcSocket != Server().grpcSocket {
        server.querySocket = server.grpcSocket
        section.report.warnings.append("persist.server.grpc_socket is deprecated: write query_socket")
      }
      section.int("max_connections", into: &server.maxConnections, 1...1_000_000)
    }
    ipc.socket = main.socket
    section.section("ipc") { section in
      section.socketPath("socket", into: &ipc.socket)
      if ipc.socket != main.socket {
        section.refuse(
          "socket", "is '\(ipc.socket)' but ipc.socket is '\(main.socket)'; give one of them, or both the same")
      }
      section.int("max_connections", into: &ipc.maxConnections, 1...10_000)
      section.size("max_message_size", into: &ipc.maxMessageSize, atLeast: 1 << 20)
    }
    section.section("wal") { section in
      section.choice("fsync", into: &wal.fsync)
      section.duration("fsync_interval", into: &wal.fsyncInterval, .milliseconds(1) ... .seconds(3600))
      section.size("max_size", into: &wal.maxSize, atLeast: 16 << 20)
      section.size("max_unsealed", into: &wal.maxUnsealed, atLeast: 1 << 20)
      section.duration("seal_interval", into: &wal.sealInterval, .milliseconds(100) ... .seconds(86_400))
    }
    section.section("retention") { section in
      section.int("days", into: &retention.days, 0...36_500)
      section.size("max_bytes_per_job", into: &retention.maxBytesPerJob, atLeast: 1, zero: true)
      section.size("max_bytes", into: &retention.maxBytes, atLeast: 1, zero: true)
      section.size("min_free", into: &retention.minFree, atLeast: 1, zero: true)
    }
    storage.inherit(filesystem)
    section.section("storage") { storage.read(&$0) }
    section.section("logging") { section in
      var own = Configuration.Logging()
      own.read(&section)
      if section.has("level") { logging.level = own.level }
      if section.has("format") { logging.format = own.format }
      if section.has("output") { logging.output = own.output }
    }
  }
}

extension Configuration.Persist.Storage {
  /// Takes the folder that holds the jobs' one as the base directory, if there is one below the root.
  fileprivate mutating func inherit(_ filesystem: Configuration.Filesystem) {
    let parent = filesystem.baseDir.split(separator: "/").dropLast()
    if !parent.isEmpty { baseDir = "/" + parent.joined(separator: "/") }
  }

  mutating func read(_ section: inout SectionReader) {
    section.choice("type", into: &type)
    if type != .local { section.refuse("type", "'\(type.rawValue)' is not in this version; allowed: local") }
    section.absolutePath("base_dir", into: &baseDir)
    section.duration("local_keep", into: &localKeep, .seconds(1) ... .seconds(31_536_000), zero: true)
    // What the base directory holds moves with it, unless it is placed on its own.
    let base = baseDir == "/" ? "" : baseDir
    local.logs.directory = "\(base)/logs"
    local.metrics.directory = "\(base)/metrics"
    section.section("local") { section in
      section.section("logs") { Self.read(&$0, &local.logs) }
      section.section("metrics") { Self.read(&$0, &local.metrics) }
    }
    section.section("cloudwatch") { cloudwatch.read(&$0) }
    section.section("s3") { s3.read(&$0) }
  }

  private static func read(_ section: inout SectionReader, _ files: inout Local.Files) {
    section.absolutePath("directory", into: &files.directory)
    section.choice("format", into: &files.format, ["jsonl.gz"])
  }
}

extension Configuration.Persist.Storage.CloudWatch {
  /// CloudWatch Logs' own list (PutRetentionPolicy), besides 0 (the default of 7) and -1 (never).
  static let retentionDays = [
    -1, 0, 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653,
  ]

  mutating func read(_ section: inout SectionReader) {
    section.string("region", into: &region)
    section.string("endpoint", into: &endpoint, allowed: urlAllowed, isURLOrEmpty)
    section.string("log_group_prefix", into: &logGroupPrefix)
    section.string("log_stream_prefix", into: &logStreamPrefix)
    if !logStreamPrefix.isEmpty {
      section.report.warnings.append(
        "persist.storage.cloudwatch.log_stream_prefix is deprecated and has no effect: remove it")
    }
    section.string("metric_namespace", into: &metricNamespace)
    section.dictionary("metric_dimensions", into: &metricDimensions)
    section.int("log_batch_size", into: &logBatchSize, 1...10_000)
    section.int("metric_batch_size", into: &metricBatchSize, 1...1000)
    let before = logRetentionDays
    section.int("log_retention_days", into: &logRetentionDays, -1...3653)
    if !Self.retentionDays.contains(logRetentionDays) {
      let allowed = Self.retentionDays.map { "\($0)" }.joined(separator: ", ")
      section.refuse("log_retention_days", "'\(logRetentionDays)' is not allowed; allowed: \(allowed)")
      logRetentionDays = before
    }
  }
}

extension Configuration.Persist.Storage.S3 {
  mutating func read(_ section: inout SectionReader) {
    section.string("region", into: &region)
    section.string("endpoint", into: &endpoint, allowed: urlAllowed, isURLOrEmpty)
    section.string("bucket", into: &bucket)
    section.string("key_prefix", into: &keyPrefix)
    section.duration("flush_interval", into: &flushInterval, .seconds(1) ... .seconds(86_400))
    section.size("flush_threshold", into: &flushThreshold, atLeast: 1)
    section.size("max_buffer_size", into: &maxBufferSize, atLeast: 1)
    section.choice(
      "storage_class", into: &storageClass,
      [
        "STANDARD", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER", "GLACIER_IR", "DEEP_ARCHIVE",
        "REDUCED_REDUNDANCY", "EXPRESS_ONEZONE",
      ])
    section.choice("sse", into: &sse, ["", "AES256", "aws:kms"])
    section.string("kms_key_id", into: &kmsKeyID)
  }
}

extension Configuration.State {
  mutating func read(_ section: inout SectionReader) {
    section.choice("backend", into: &backend)
    if backend == .dynamodb { section.refuse("backend", "'dynamodb' is not in this version; allowed: local, memory") }
    section.section("storage") { section in
      section.section("dynamodb") { section in
        section.string("region", into: &storage.dynamodb.region)
        section.string("endpoint", into: &storage.dynamodb.endpoint, allowed: urlAllowed, isURLOrEmpty)
        section.string("table_name", into: &storage.dynamodb.tableName)
        section.bool("ttl_enabled", into: &storage.dynamodb.ttlEnabled)
        section.string("ttl_attribute", into: &storage.dynamodb.ttlAttribute)
        section.int("ttl_days", into: &storage.dynamodb.ttlDays, 1...36_500)
        section.int("read_capacity", into: &storage.dynamodb.readCapacity, 0...1_000_000)
        section.int("write_capacity", into: &storage.dynamodb.writeCapacity, 0...1_000_000)
      }
    }
  }
}

private let urlAllowed = "an http:// or https:// URL, or empty for the service's own"

private func isURLOrEmpty(_ text: String) -> Bool {
  text.isEmpty || text.hasPrefix("https://") || text.hasPrefix("http://")
}
