import Foundation
import Testing

extension SystemTests {
  /// What is left of jobs that are gone: nothing.
  @Suite struct Leaks {
    /// Enough to see one of anything a job; by hand as many as wanted (`JOBLET_LEAK_JOBS=10000 contrib/check --filter Leaks`).
    static let jobs = ProcessInfo.processInfo.environment["JOBLET_LEAK_JOBS"].flatMap { Int($0) } ?? 240

    /// Jobs that end in every way there is.
    private static let kinds = [
      #"{"command": "true"}"#,
      #"{"command": "sh", "args": ["-c", "echo some output; exit 3"]}"#,
      #"{"command": "/no/such/program"}"#,
      #"{"command": "sh", "args": ["-c", "kill -9 $$"], "secret_env": {"TOKEN": "x"}}"#,
      #"{"command": "sh", "args": ["-c", "mkdir -p a/b/c; ln -s / a/b/root; echo x >a/b/c/file; mkfifo a/fifo"]}"#,
      #"{"command": "sh", "args": ["-c", "setsid sleep 1000 & setsid sleep 1000 & echo left"]}"#,
      #"{"command": "sleep", "args": ["1000"], "timeout": "50ms"}"#,
      #"{"command": "sh", "args": ["-c", "s=x; while :; do s=$s$s; done"], "limits": {"memory_mb": 16}}"#,
      #"{"command": "sh", "args": ["-c", "echo x >/dev/shm/x; echo x >/tmp/x; seq 2000"], "limits": {"pids": 8}}"#,
    ]

    @Test(.timeLimit(.minutes(240)))
    func `jobs leave nothing behind`() async throws {
      let edits = [
        // Fewer ranges of user IDs than jobs, and more than what runs, is being removed, and is in stock: if they did not come
        // back, the last job would have none.
        ("\"1879048192:268435456\"", "\"1879048192:\(96 * 65_536)\""),
        ("maxConcurrentJobs: 0", "maxConcurrentJobs: 12"),
        ("preserve_on_failure: 1h", "preserve_on_failure: 0s"),
      ]
      try await Systemd.withConfiguration(replacing: edits) {
        try await restart()
        // What is allocated once and kept is there after these.
        try await run(Leaks.kinds.count * 4)
        let before = try await settled(nil)
        try await run(Leaks.jobs)
        let after = try await settled(before)
        print("leaks: after \(Leaks.jobs) jobs: \(before.difference(to: after))")
        before.expectNoLeak(after, jobs: Leaks.jobs)
        let last = try await API().finish("echo works")
        #expect(last.job.status == "COMPLETED" && last.stdout == "works\n", "\(last)")
      } after: {
        try await restart()
      }
    }

    private func restart() async throws {
      try await Shell.must("systemctl restart joblet-exec.service", within: .seconds(300))
      try await Systemd.waitUntilReady()
    }

    /// Posts jobs by four connections at once and waits until all have ended and are cleaned up.
    private func run(_ count: Int) async throws {
      let files = try ClientFiles(config: Installed.clientConfig)
      try await withThrowingTaskGroup(of: Void.self) { group in
        for worker in 0..<4 {
          let mine = Array(stride(from: worker, to: count, by: 4))
          group.addTask { try await post(mine, files) }
        }
        try await group.waitForAll()
      }
      try await eventually("every job is gone", within: .seconds(300 + count), pause: .seconds(1)) {
        try FileManager.default.contentsOfDirectory(atPath: Installed.runState).isEmpty
      }
    }

    /// One curl for many requests: a process for each would take longer than the jobs.
    private func post(_ numbers: [Int], _ files: ClientFiles) async throws {
      let config = "\(files.directory)/\(UUID().uuidString)"
      for batch in stride(from: 0, to: numbers.count, by: 50) {
        var text = ""
        for number in numbers[batch..<min(batch + 50, numbers.count)] {
          let kind = Leaks.kinds[number % Leaks.kinds.count]
          let body = kind.replacing(#"""#, with: #"\""#)
          text += """
            \(text.isEmpty ? "" : "next\n")url = "\(Installed.api)/v1/jobs"
            cacert = "\(files.directory)/ca.pem"
            cert = "\(files.directory)/cert.pem"
            key = "\(files.directory)/key.pem"
            header = "Content-Type: application/json"
            http1.1
            data = "\(body)"
            output = "/dev/null"
            write-out = "%{http_code}\\n"
            silent
            show-error

            """
        }
        try text.write(toFile: config, atomically: true, encoding: .utf8)
        let output = try await Shell.run(["curl", "-K", config], within: .seconds(600))
        #expect(Set(output.lines) == ["201"], "\(output.errors)")
      }
      unlink(config)
    }

    /// The figures once they have stopped falling: teardown goes on behind a job's end, and the kernel frees late.
    private func settled(_ before: HostFigures?) async throws -> HostFigures {
      var last = try await HostFigures.take()
      for _ in 0..<30 {
        try await Task.sleep(for: .seconds(1))
        let next = try await HostFigures.take()
        let isStill = next.exact == last.exact && next.kernel.allSatisfy { $0.value >= (last.kernel[$0.key] ?? 0) }
        last = next
        if isStill, before.map({ next.leaks(since: $0, jobs: Leaks.jobs).isEmpty }) ?? true { break }
      }
      return last
    }
  }
}

/// What there is on the host of the things that jobs are made of.
struct HostFigures {
  /// These come back to the very number.
  var exact: [String: Int] = [:]
  /// Held in stock by exec, so a few more or less.
  var stocked: [String: Int] = [:]
  /// The kernel's own counts, some of which it lets go of late.
  var kernel: [String: Int] = [:]
  /// KiB.
  var memory: [String: Int] = [:]

  static func take() async throws -> HostFigures {
    let slabs =
      "user_namespace|pid_namespace|net_namespace|nsproxy|mnt_cache|mem_cgroup|task_struct|mqueue_inode_cache|uid_cache"
    let pids = try await Installed.services.asyncMap { try await Systemd.mainPID($0) }
    let text = try await Shell.must(
      """
      echo "exact host mounts $(wc -l </proc/mounts)"
      echo "exact exec's mounts $(wc -l </proc/\(pids[1])/mounts)"
      echo "exact state directories $(ls \(Installed.runState) | wc -l)"
      echo "stocked sockets $(wc -l </proc/net/unix)"
      echo "exact network devices $(ls /sys/class/net | wc -l)"
      echo "stocked workspaces $(ls \(Installed.jobs) | wc -l)"
      echo "stocked cgroups $(find \(Installed.jobsCgroup) -type d | wc -l)"
      echo "stocked processes $(ls -d /proc/[0-9]* | wc -l)"
      echo "stocked namespaces $(readlink /proc/[0-9]*/ns/* 2>/dev/null | sort -u | wc -l)"
      echo "stocked keys $(wc -l </proc/keys)"
      echo "kernel dying cgroups $(sed -n 's/^nr_dying_descendants //p' \(Installed.jobsCgroup)/cgroup.stat)"
      awk '$1 ~ /^(\(slabs))$/ {print "kernel", $1, $2}' /proc/slabinfo
      """)
    var figures = HostFigures()
    for line in text.split(separator: "\n") {
      let words = line.split(separator: " ")
      guard words.count >= 3, let value = Int(words[words.count - 1]) else { continue }
      let name = words[1..<(words.count - 1)].joined(separator: " ")
      switch words[0] {
      case "exact": figures.exact[name] = value
      case "stocked": figures.stocked[name] = value
      default: figures.kernel[name] = value
      }
    }
    for service in Installed.services {
      figures.stocked["descriptors of \(service)"] = try await Daemon.openDescriptors(service)
      figures.stocked["threads of \(service)"] = try await Daemon.memory(service, "Threads")
      figures.memory["memory of \(service)"] = try await Daemon.memory(service)
    }
    return figures
  }

  func leaks(since before: HostFigures, jobs: Int) -> [String] {
    var leaks: [String] = []
    for (name, value) in exact where value > before.exact[name] ?? 0 { leaks.append(name) }
    // exec keeps at most 16 namespaces and as many prepared sandboxes, each of a few descriptors, processes and directories.
    for (name, value) in stocked where value - (before.stocked[name] ?? 0) > 100 { leaks.append(name) }
    // A slab's objects are freed in pages; half an object a job is no object a job.
    for (name, value) in kernel where value - (before.kernel[name] ?? 0) > max(jobs / 2, 100) { leaks.append(name) }
    // Allocators keep what they had; what is left for each job must be little. Records of ended jobs: 1,000 are kept.
    for (name, value) in memory where value - (before.memory[name] ?? 0) > 24 << 10 { leaks.append(name) }
    return leaks.sorted()
  }

  func expectNoLeak(_ after: HostFigures, jobs: Int) {
    #expect(after.leaks(since: self, jobs: jobs) == [], "\(difference(to: after))")
  }

  func difference(to after: HostFigures) -> String {
    let pairs = [(exact, after.exact), (stocked, after.stocked), (kernel, after.kernel), (memory, after.memory)]
    return pairs.flatMap { before, after in
      after.sorted { $0.key < $1.key }.map { "\($0.key) \(before[$0.key] ?? 0) → \($0.value)" }
    }.joined(separator: ", ")
  }
}

extension Array {
  fileprivate func asyncMap<T>(_ body: (Element) async throws -> T) async throws -> [T] {
    var result: [T] = []
    for element in self { result.append(try await body(element)) }
    return result
  }
}
