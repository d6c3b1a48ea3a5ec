import CBenchmark

#if canImport(Glibc)
  import Glibc
#endif

/// The benchmark's own Joblet: three daemons from this build in a folder of their own, gone without a trace afterwards.
///
/// It does not touch an installed Joblet: other sockets, other ports, other cgroups, other files.
public final class Bed {
  public let directory: String
  /// exec's state of running jobs, on tmpfs.
  public let state: String
  /// Whether jobs can have limits here: the cgroup has the controllers.
  public let hasLimits: Bool
  public private(set) var api: Child
  public private(set) var exec: Child
  public private(set) var persist: Child

  /// Where the jobs' cgroups are.
  public let cgroup: String
  private let ports: (api: Int, health: Int)

  /// Where what the benchmark needs was built.
  public struct Programs {
    /// joblet-api, joblet-exec, joblet-persist, joblet-certs, joblet-init.
    public var daemons: String
    /// The jobs: first-instruction, line-writer.
    public var jobs: String

    public init(daemons: String, jobs: String) {
      self.daemons = daemons
      self.jobs = jobs
    }
  }

  /// What differs between the benchmarks' beds.
  public struct Settings {
    /// `logging.level`.
    public var logLevel = "WARN"
    /// `state.backend`: what a node has by default is `local`.
    public var state = "memory"

    public init() {}
  }

  private init(
    directory: String, state: String, hasLimits: Bool, cgroup: String, ports: (Int, Int), api: Child, exec: Child,
    persist: Child
  ) {
    self.directory = directory
    self.state = state
    self.hasLimits = hasLimits
    self.cgroup = cgroup
    self.ports = ports
    self.api = api
    self.exec = exec
    self.persist = persist
  }

  /// Starts the three and waits until they are ready, runs `body`, and cleans up whatever happened.
  public static func run(
    _ programs: Programs, _ settings: Settings = Settings(), _ body: (Bed) throws -> Void
  ) throws {
    let directory = try temporaryDirectory()
    // Rings and state of running jobs belong on a tmpfs.
    let state = "/dev/shm/joblet-bench-\(getpid())"
    defer { shell("rm -rf --one-file-system '\(directory)' '\(state)'") }
    let mount = try cgroup2Mount()
    let cgroup = "\(mount)/joblet-bench-\(getpid())"
    guard mkdir(cgroup, 0o755) == 0 else { throw BenchmarkError("\(cgroup): \(String(cString: strerror(errno)))") }
    defer {
      shell("echo 1 > '\(cgroup)/cgroup.kill'; sleep 0.2; find '\(cgroup)' -depth -type d -exec rmdir {} + 2>/dev/null")
    }
    let controllers = try readFile("\(mount)/cgroup.controllers").split(whereSeparator: { $0 == " " || $0 == "\n" })
    let hasLimits = ["cpu", "memory", "pids"].allSatisfy { controllers.contains($0[...]) }

    let ports = (api: try freePort(), health: try freePort())
    shell(
      "mkdir -p '\(directory)'/{run,jobs,logs,metrics,config,bin} && cp '\(programs.jobs)'/* '\(directory)/bin/'")
    // The job's user must reach its program: the folder above it is nobody's secret.
    chmod(directory, 0o755)
    try writeFile(
      "\(directory)/joblet-config.yml", configuration(directory, ports: ports, hasLimits: hasLimits, settings))
    try makeCertificates(programs, directory)

    func daemon(_ name: String, _ arguments: [String]) throws -> Child {
      try Child(
        ["\(programs.daemons)/\(name)", "--config", "\(directory)/joblet-config.yml"] + arguments,
        output: .file("\(directory)/\(name).log"), errors: .file("\(directory)/\(name).log"))
    }
    let run = "\(directory)/run"
    let persist = try daemon(
      "joblet-persist",
      ["--listen", "ipc=unix:\(run)/persist-ipc.sock", "--listen", "query=unix:\(run)/persist-query.sock"])
    defer { persist.stop() }
    let exec = try daemon(
      "joblet-exec",
      [
        "--listen", "exec=unix:\(run)/exec.sock", "--cgroup-root", cgroup, "--state-dir", state,
        "--init", "\(programs.daemons)/joblet-init",
      ])
    defer { exec.stop() }
    let api = try daemon(
      "joblet-api",
      ["--listen", "api=tcp:127.0.0.1:\(ports.api)", "--listen", "health=tcp:127.0.0.1:\(ports.health)"])
    defer { api.stop() }
    let bed = Bed(
      directory: directory, state: state, hasLimits: hasLimits, cgroup: cgroup, ports: ports, api: api, exec: exec,
      persist: persist)
    do {
      try bed.waitUntilReady()
      try body(bed)
    } catch {
      for name in ["joblet-persist", "joblet-exec", "joblet-api"] {
        shell("echo '--- \(name)' >&2; tail -n 20 '\(directory)/\(name).log' >&2")
      }
      throw error
    }
  }

  /// A client on a connection of its own.
  public func client() throws -> HTTP {
    try HTTP(
      base: base, ca: "\(directory)/config/ca.pem", certificate: "\(directory)/config/client.pem",
      key: "\(directory)/config/client.key")
  }

  /// Many clients on connections of their own.
  public var clients: Clients {
    Clients(
      port: ports.api, ca: "\(directory)/config/ca.pem", certificate: "\(directory)/config/client.pem",
      key: "\(directory)/config/client.key")
  }

  public var base: String { "https://127.0.0.1:\(ports.api)" }

  /// curl's arguments for the same client.
  public var curl: [String] {
    [
      "curl", "-sS", "-N", "--cacert", "\(directory)/config/ca.pem", "--cert", "\(directory)/config/client.pem",
      "--key",
      "\(directory)/config/client.key",
    ]
  }

  /// The limits of a job's request, with a comma before them; empty where there can be none.
  public var limits: String {
    hasLimits ? ",\"limits\":{\"cpu_percent\":200,\"memory_mb\":256,\"pids\":64}" : ""
  }

  /// The body of a request that runs one of the benchmark's own programs.
  public func job(_ program: String, _ arguments: [String] = []) -> String {
    let args = arguments.map { "\"\($0)\"" }.joined(separator: ",")
    return "{\"command\":\"\(directory)/bin/\(program)\",\"args\":[\(args)]\(limits)}"
  }

  private func waitUntilReady() throws {
    let health = try HTTP(base: "http://127.0.0.1:\(ports.health)")
    try waitUntil("/readyz says 200", seconds: 60, pause: 100_000) {
      for (name, child) in [("joblet-api", api), ("joblet-exec", exec), ("joblet-persist", persist)] {
        guard child.isRunning else { throw BenchmarkError("\(name) ended before it was ready") }
      }
      do { return try health.request("GET", "/readyz").status == 200 } catch { return false }
    }
  }

  /// What every job sees of the host; peers are given the same.
  public var allowedMounts: [String] { Bed.allowedMounts(directory) }
  private static func allowedMounts(_ directory: String) -> [String] {
    ["/usr", "/bin", "/sbin", "/lib", "/lib64", "\(directory)/bin"]
  }

  private static func configuration(
    _ directory: String, ports: (api: Int, health: Int), hasLimits: Bool, _ settings: Settings
  ) -> String {
    """
    version: "3.0"
    server:
      nodeId: benchmark
      address: 127.0.0.1
      port: \(ports.api)
      health: {address: 127.0.0.1, port: \(ports.health)}
    filesystem:
      baseDir: \(directory)/jobs
      allowedMounts: [\(allowedMounts(directory).joined(separator: ", "))]
      # Whatever file system the folder is on: a benchmark asks for no quota of it.
      workspace: {default_quota: 0}
    cgroup: {enableControllers: \(hasLimits ? "[cpu, memory, pids]" : "[]")}
    ipc: {socket: \(directory)/run/persist-ipc.sock}
    persist:
      server:
        query_socket: \(directory)/run/persist-query.sock
        grpc_socket: \(directory)/run/persist-grpc.sock
      ipc: {socket: \(directory)/run/persist-ipc.sock}
      storage:
        type: local
        base_dir: \(directory)
        local:
          logs: {directory: \(directory)/logs}
          metrics: {directory: \(directory)/metrics}
    state: {backend: \(settings.state)}
    logging: {level: \(settings.logLevel)}
    security:
      serverCert: \(directory)/config/server.pem
      serverKey: \(directory)/config/server.key
      caCert: \(directory)/config/ca.pem

    """
  }

  /// A CA, a server and an administrator, made with openssl for this run only.
  private static func makeCertificates(_ programs: Programs, _ directory: String) throws {
    let script = """
      set -e; cd '\(directory)/config'; umask 077
      key() { openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out $1.key; }
      key ca
      openssl req -x509 -key ca.key -subj '/O=joblet/CN=Benchmark CA' -days 90 -out ca.pem
      leaf() {
        key $1; openssl req -new -key $1.key -subj "$2" -out $1.req
        printf '%s\\n' 'basicConstraints=critical,CA:false' 'keyUsage=critical,digitalSignature' "extendedKeyUsage=$3" "$4" > $1.ext
        openssl x509 -req -in $1.req -CA ca.pem -CAkey ca.key -CAcreateserial -days 90 -extfile $1.ext -out $1.pem
      }
      leaf server '/O=joblet/CN=localhost' serverAuth 'subjectAltName=DNS:localhost,IP:127.0.0.1'
      leaf client '/O=joblet/OU=admin/CN=benchmark' clientAuth ''
      """
    let made = try Child(["bash", "-c", script], errors: .file("\(directory)/openssl.log"))
    guard made.wait() == 0 else { throw BenchmarkError("openssl: \(try readFile("\(directory)/openssl.log"))") }
  }

  /// On a file system that takes idmapped mounts (ext4, xfs, btrfs, tmpfs): `JOBLET_BENCH_TMP`, else `/var/tmp`. Not
  /// `TMPDIR`: that is often below `/tmp`, which is each job's own, so the jobs' programs could not be seen there.
  private static func temporaryDirectory() throws -> String {
    let parent = getenv("JOBLET_BENCH_TMP").map { String(cString: $0) } ?? "/var/tmp"
    var template = Array("\(parent)/joblet-bench.XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { throw BenchmarkError("\(parent): \(String(cString: strerror(errno)))") }
    return String(decoding: template.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  /// Where cgroup v2 is mounted: `/sys/fs/cgroup`, or `/sys/fs/cgroup/unified` beside version 1.
  public static func cgroup2Mount() throws -> String {
    for line in try readFile("/proc/self/mounts").split(separator: "\n") {
      let fields = line.split(separator: " ")
      guard fields.count > 2, fields[2] == "cgroup2" else { continue }
      // Another mount may lie over one that is listed.
      if benchmark_is_cgroup2(String(fields[1])) == 1 { return String(fields[1]) }
    }
    throw BenchmarkError("cgroup v2 is not mounted here")
  }

  /// A TCP port nobody listens on at this moment.
  public static func freePort() throws -> Int {
    let probe = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    guard probe >= 0 else { throw BenchmarkError("socket: errno \(errno)") }
    defer { close(probe) }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let code = withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
        bind(probe, pointer, length) == 0 ? getsockname(probe, pointer, &length) : -1
      }
    }
    guard code == 0 else { throw BenchmarkError("bind: errno \(errno)") }
    return Int(UInt16(bigEndian: address.sin_port))
  }
}

/// Runs a line of shell whose failure does not matter (cleaning up, showing logs).
public func shell(_ script: String) {
  do { try Child(["bash", "-c", script]).wait() } catch { print("# \(script): \(error)") }
}

/// What every benchmark is told on its command line: `--bin DIR --jobs DIR`.
public func programs(from arguments: [String] = CommandLine.arguments) throws -> Bed.Programs {
  func value(_ name: String) throws -> String {
    guard let index = arguments.firstIndex(of: name), index + 1 < arguments.count else {
      throw BenchmarkError("\(name) DIR is missing; contrib/bench gives it")
    }
    return arguments[index + 1]
  }
  return Bed.Programs(daemons: try value("--bin"), jobs: try value("--jobs"))
}

/// The parts that `--only` names, with commas between them.
public func parts(_ text: String, of known: [String]) throws -> Set<String> {
  let parts = Set(text.split(separator: ",").map(String.init))
  if let unknown = parts.first(where: { !known.contains($0) }) {
    throw BenchmarkError("no part '\(unknown)'; there are: \(known.joined(separator: ", "))")
  }
  return parts
}

/// Runs a benchmark's body; an error is a line on stderr and exit code 1.
public func benchmarkMain(_ body: () throws -> Void) -> Never {
  do {
    try body()
    exit(0)
  } catch {
    let line = Array("benchmark: \(error)\n".utf8)
    _ = write(2, line, line.count)
    exit(1)
  }
}
