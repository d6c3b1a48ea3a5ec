import JobletModel

/// The schema: each key of the file with the field it fills and the values it may have.
extension Configuration {
  static let largest = 1_000_000_000

  mutating func read(_ root: inout SectionReader) {
    root.section("server") { server.read(&$0) }
    root.section("joblet") { joblet.read(&$0) }
    root.section("filesystem") { filesystem.read(&$0) }
    root.section("process") { process.read(&$0) }
    root.section("isolation") { isolation.read(&$0) }
    root.section("cgroup") { section in
      let known = ["cpu", "cpuset", "io", "memory", "pids"]
      section.list(
        "enableControllers", into: &cgroup.enableControllers, allowed: known.joined(separator: ", "), known.contains)
    }
    root.section("ipc") { ipc.read(&$0) }
    // With ipc off there is no persist, and its section is not looked at.
    if ipc.enabled {
      root.section("persist") { persist.read(&$0, ipc: ipc, filesystem: filesystem) }
    } else {
      root.skip("persist")
    }
    root.section("state") { state.read(&$0) }
    root.section("metrics") {
      $0.duration("interval", into: &metrics.interval, .milliseconds(100) ... .seconds(86_400))
    }
    root.section("logging") { logging.read(&$0) }
    root.section("security") { security.read(&$0) }
    root.section("network") { section in
      section.choice("default_network", into: &network.defaultNetwork, ["none"])
      section.dictionary("networks", into: &network.networks)
      if !network.networks.isEmpty {
        section.refuse("networks", "this version knows no networks but 'none'; allowed: {}")
      }
    }
    root.section("volumes") { section in
      section.absolutePath("base_path", into: &volumes.basePath)
      section.int("max_volumes", into: &volumes.maxVolumes, 0...Configuration.largest)
      section.size("max_size", into: &volumes.maxSize, atLeast: 1)
      section.size("default_size", into: &volumes.defaultSize, atLeast: 1)
    }
  }
}

extension Configuration.Server {
  static let nodeIDAllowed = "letters, digits, '-', '_' and '.', at most 128"

  static func isNodeID(_ text: String) -> Bool {
    text.utf8.count <= 128
      && text.unicodeScalars.allSatisfy {
        $0.isASCII && ($0.properties.isAlphabetic || "0123456789-_.".unicodeScalars.contains($0))
      }
  }

  mutating func read(_ section: inout SectionReader) {
    section.string("nodeId", into: &nodeID, allowed: Self.nodeIDAllowed, Self.isNodeID)
    section.string("address", into: &address, allowed: "an IPv4 or IPv6 address", isIPAddress)
    section.int("port", into: &port, 1...65535)
    section.string("advertise", into: &advertise, allowed: "host:port, or empty") { text in
      guard !text.isEmpty else { return true }
      guard let colon = text.lastIndex(of: ":"), colon != text.startIndex,
        let port = Int(text[text.index(after: colon)...])
      else { return false }
      return (1...65535).contains(port)
    }
    section.section("health") { section in
      section.string("address", into: &health.address, allowed: "an IPv4 or IPv6 address", isIPAddress)
      section.int("port", into: &health.port, 1...65535)
    }
    section.section("tls") { $0.choice("min_version", into: &tls.minVersion, ["1.2", "1.3"]) }
    section.section("timeouts") { section in
      let range: ClosedRange<Duration> = .milliseconds(100) ... .seconds(3600)
      section.duration("handshake", into: &timeouts.handshake, range)
      section.duration("header", into: &timeouts.header, range)
      section.duration("idle", into: &timeouts.idle, .seconds(1) ... .seconds(86_400))
      section.duration("drain", into: &timeouts.drain, range, zero: true)
    }
    section.int("max_connections", into: &maxConnections, 1...1_000_000)
    section.size("max_body", into: &maxBody, atLeast: 1024)
  }
}

extension Configuration.Jobs {
  mutating func read(_ section: inout SectionReader) {
    let largest = Configuration.largest
    section.int("defaultCpuLimit", into: &defaultCPULimit, 0...Limits.cpuPercentRange.upperBound)
    section.int("defaultMemoryLimit", into: &defaultMemoryLimit, 0...Limits.memoryMBRange.upperBound)
    section.size("defaultIoLimit", into: &defaultIOLimit, atLeast: Limits.ioBpsRange.lowerBound, zero: true)
    section.int("maxConcurrentJobs", into: &maxConcurrentJobs, 0...largest)
    section.int("max_queue", into: &maxQueue, 0...largest)
    section.duration("jobTimeout", into: &jobTimeout, .milliseconds(1) ... .seconds(31_536_000), zero: true)
    section.duration("stopGrace", into: &stopGrace, .milliseconds(1) ... .seconds(86_400), zero: true)
    section.duration("cleanupTimeout", into: &cleanupTimeout, .milliseconds(100) ... .seconds(3600))
  }
}

extension Configuration.Filesystem {
  mutating func read(_ section: inout SectionReader) {
    section.absolutePath("baseDir", into: &baseDir)
    section.absolutePath("workspaceDir", into: &workspaceDir)
    section.list("allowedMounts", into: &allowedMounts, allowed: "absolute paths without '..'", isAbsolutePath)
    section.section("workspace") { section in
      section.size("default_quota", into: &workspace.defaultQuota, atLeast: 4096, zero: true)
      section.duration("keep", into: &workspace.keep, .milliseconds(1) ... .seconds(31_536_000), zero: true)
      section.duration(
        "preserve_on_failure", into: &workspace.preserveOnFailure, .milliseconds(1) ... .seconds(31_536_000), zero: true
      )
    }
    section.size("tmpSize", into: &tmpSize, atLeast: 4096)
  }
}

extension Configuration.Process {
  mutating func read(_ section: inout SectionReader) {
    let allowed = "a user or group name, or a number"
    section.string("default_user", into: &defaultUser, allowed: allowed, isAccountName)
    section.string("default_group", into: &defaultGroup, allowed: allowed, isAccountName)
    section.int("pids", into: &pids, 1...4_194_304)
  }
}

extension Configuration.Isolation {
  mutating func read(_ section: inout SectionReader) {
    var text = "\(idPool.first):\(idPool.count)"
    let allowed = "FIRST:COUNT, host IDs above 65535 that no user has, COUNT a multiple of 65536"
    section.string("id_pool", into: &text, allowed: allowed) { IDPool($0) != nil }
    if let pool = IDPool(text) { idPool = pool }
    section.choice("seccomp", into: &seccomp, SeccompProfile.allCases.map(\.rawValue))
    section.choice("landlock", into: &landlock, ["auto", "required", "off"])
    section.int("prepared", into: &prepared, 0...256)
  }
}

extension Configuration.Isolation.IDPool {
  init?(_ text: String) {
    let parts = text.split(separator: ":", omittingEmptySubsequences: false)
    guard parts.count == 2, let first = UInt32(parts[0]), let count = UInt32(parts[1]), first >= 65_536, count > 0,
      count % 65_536 == 0, UInt64(first) + UInt64(count) <= UInt64(UInt32.max)
    else { return nil }
    self.init(first: first, count: count)
  }
}

extension Configuration.IPC {
  mutating func read(_ section: inout SectionReader) {
    section.bool("enabled", into: &enabled)
    section.socketPath("socket", into: &socket)
    section.int("buffer_size", into: &bufferSize, 16...1_000_000)
    section.duration("reconnect_delay", into: &reconnectDelay, .milliseconds(10) ... .seconds(3600))
    section.int("max_reconnects", into: &maxReconnects, 0...Configuration.largest)
  }
}

extension Configuration.Logging {
  mutating func read(_ section: inout SectionReader) {
    section.choice("level", into: &level)
    section.choice("format", into: &format)
    section.string("output", into: &output, allowed: "stdout, stderr, or a file's absolute path") {
      ["stdout", "stderr"].contains($0) || isAbsolutePath($0)
    }
  }
}

extension Configuration.Security {
  mutating func read(_ section: inout SectionReader) {
    let allowed = "PEM text that begins with -----BEGIN, or a file's absolute path"
    func isPEMOrFile(_ text: String) -> Bool { text.isEmpty || text.hasPrefix("-----BEGIN ") || isAbsolutePath(text) }
    section.string("serverCert", into: &serverCert, allowed: allowed, isPEMOrFile)
    section.string("serverKey", into: &serverKey, allowed: allowed, isPEMOrFile)
    section.string("caCert", into: &caCert, allowed: allowed, isPEMOrFile)
    section.string("crl", into: &crl, allowed: allowed, isPEMOrFile)
    section.section("audit") { section in
      section.bool("enabled", into: &audit.enabled)
      section.string("log_file", into: &audit.logFile, allowed: "a file's absolute path, or empty for the journal") {
        $0.isEmpty || isAbsolutePath($0)
      }
    }
  }
}

private func isAccountName(_ text: String) -> Bool {
  !text.isEmpty && text.utf8.count <= 32
    && text.unicodeScalars.allSatisfy {
      $0.isASCII && ($0.properties.isAlphabetic || "0123456789-_".unicodeScalars.contains($0))
    }
}
