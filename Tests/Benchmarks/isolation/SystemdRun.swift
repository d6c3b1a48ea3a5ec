import BenchmarkKit

#if canImport(Glibc)
  import Glibc
#endif

/// `systemd-run --wait` with systemd's own sandboxing, on a host where systemd is PID 1: this one, or the one that
/// JOBLET_BENCH_SYSTEMD_HOST can start from an image on this same kernel. There it is this program, told so by
/// `--systemd-run FILE COUNT PROBE`, that measures; it prints two times a line.
enum SystemdRun {
  /// The properties that come nearest to a job of Joblet's (systemd.exec(5)). A user namespace in which only root and the
  /// unit's user are mapped, and a list of calls of systemd's own, is what it has.
  private static func properties(writable: String) -> [String] {
    [
      "PrivateUsers=yes", "PrivateNetwork=yes", "PrivateIPC=yes", "PrivateTmp=yes", "PrivateDevices=yes",
      "PrivateMounts=yes", "ProtectSystem=strict", "ProtectHome=yes", "ProtectProc=invisible", "ProtectHostname=yes",
      "ProtectClock=yes", "ProtectKernelTunables=yes", "ProtectKernelModules=yes", "ProtectKernelLogs=yes",
      "ProtectControlGroups=yes", "RestrictNamespaces=yes", "RestrictSUIDSGID=yes", "LockPersonality=yes",
      "NoNewPrivileges=yes", "CapabilityBoundingSet=", "KeyringMode=private", "SystemCallFilter=@system-service",
      "SystemCallErrorNumber=EPERM", "TasksMax=64",
      // The probe stands below /var/tmp, which PrivateTmp= hides.
      "BindPaths=\(writable)",
    ].flatMap { ["-p", $0] }
  }

  static func measureHere(_ arguments: ArraySlice<String>) throws {
    let arguments = Array(arguments)
    guard arguments.count == 3, let count = Int(arguments[1]) else {
      throw BenchmarkError("--systemd-run FILE COUNT PROBE")
    }
    let folder = arguments[0].split(separator: "/").dropLast().map { "/\($0)" }.joined()
    let command =
      ["systemd-run", "--wait", "--quiet", "--collect"] + properties(writable: folder) + [arguments[2], arguments[0]]
    for _ in 0..<10 { _ = try launch(command, stampFile: arguments[0]) }
    for _ in 0..<count {
      let sample = try launch(command, stampFile: arguments[0])
      print(sample.first, sample.end)
    }
  }

  /// Its samples, or why there are none.
  static func samples(_ bed: Bed, count: Int) -> Result<[Sample], BenchmarkError> {
    // A copy beside the job, so that the other host sees one folder with all it needs.
    let own = "\(bed.directory)/bin/isolation-benchmark"
    let probe = ["--systemd-run", "\(bed.directory)/bin/stamp", "\(count)", "\(bed.directory)/bin/first-instruction"]
    var command: [String]
    if access("/run/systemd/system", F_OK) == 0 {
      command = [own] + probe
    } else if let host = getenv("JOBLET_BENCH_SYSTEMD_HOST"), let image = getenv("JOBLET_BENCH_SYSTEMD_IMAGE") {
      command = [String(cString: host), String(cString: image), "\(bed.directory)/bin", own] + probe
    } else {
      return .failure(
        BenchmarkError("systemd is not PID 1 here and there is no image to start it from (contrib/testhost image)"))
    }
    do {
      guard try Child(["cp", "/proc/\(getpid())/exe", own]).wait() == 0 else {
        throw BenchmarkError("can't copy the program")
      }
      let child = try Child(command, output: .pipe)
      let text = String(decoding: child.readAll(), as: UTF8.self)
      let status = child.wait()
      guard status == 0 else { throw BenchmarkError("measuring it ended with \(status)") }
      let samples = text.split(separator: "\n").compactMap { line -> Sample? in
        let numbers = line.split(separator: " ").compactMap { Double($0) }
        return numbers.count == 2 ? Sample(first: numbers[0], end: numbers[1]) : nil
      }
      guard samples.count == count else { throw BenchmarkError("\(samples.count) of \(count) samples came") }
      return .success(samples)
    } catch {
      return .failure(error as? BenchmarkError ?? BenchmarkError("\(error)"))
    }
  }
}
