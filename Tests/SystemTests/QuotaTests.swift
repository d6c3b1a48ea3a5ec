import Foundation
import Testing

extension SystemTests {
  /// `filesystem.workspace.default_quota` on the file system that `contrib/install` put below the workspaces.
  @Suite struct Quota {
    /// Bytes of the quota that most tests here ask for.
    private static let small = 16 << 20

    /// With workspaces of 16 MiB, so 4096 inodes.
    private func withSmallQuota(_ body: (API) async throws -> Void) async throws {
      try await Systemd.disturbing {
        try await Systemd.withConfiguration(
          replacing: "default_quota: 1GiB", with: "default_quota: 16MiB",
          {
            try await restartExec()
            try await body(try API())
          }, after: { try await restartExec() })
      }
    }

    private func restartExec() async throws {
      try await Shell.must("systemctl restart joblet-exec.service", within: .seconds(300))
      try await Systemd.waitUntilReady()
    }

    private func workspace(_ job: Job) -> String { "\(Installed.jobs)/\(job.id)/work" }

    /// A directory's project, as the host sees it.
    private func project(_ path: String) async throws -> Int {
      let text = try await Shell.must("lsattr -pd \(path) | awk '{print $1}'")
      return try #require(Int(text), "lsattr: \(text)")
    }

    /// KiB used, inodes used and KiB allowed of a project; nil if the file system has nothing for it.
    private func account(_ project: Int) async throws -> (used: Int, inodes: Int, limit: Int)? {
      func columns(_ kind: String) async throws -> [Int]? {
        let report = try await Shell.must("xfs_quota -x -c 'report -pnN\(kind)' \(Installed.jobs)")
        let line = report.split(separator: "\n").first { $0.hasPrefix("#\(project) ") }
        return line?.split(separator: " ").dropFirst().prefix(3).compactMap { Int($0) }
      }
      guard let blocks = try await columns("b"), let inodes = try await columns("i") else { return nil }
      return (blocks[0], inodes[0], blocks[2])
    }

    /// Fills the workspace in every way there is, and says for each how it ended and how far it came.
    private static let filler = """
      import errno, fcntl, os, struct, time
      MiB = 1 << 20
      def end(name, body):
        done = 0
        try:
          for done in body(): pass
          print(f"{name}=fine")
        except OSError as error:
          print(f"{name}={errno.errorcode[error.errno]}")
        print(f"{name} got={done}")
      def clean():
        for folder, _, names in os.walk(".", topdown=False):
          for name in names: os.unlink(os.path.join(folder, name))
          if folder != ".": os.rmdir(folder)
        # The file system gives back what was removed a little later.
        for _ in range(600):
          size = os.statvfs(".")
          if size.f_bfree > size.f_blocks * 0.95 and size.f_ffree > size.f_files - 8: return
          time.sleep(0.1)
        print("clean=no")
      def write(path="big", size=64 * MiB):
        with open(path, "wb", buffering=0) as file:
          done = 0
          while done < size:
            done += file.write(bytes(MiB)); yield done
      def allocate():
        with open("allocated", "wb") as file: os.posix_fallocate(file.fileno(), 0, 64 * MiB); yield 64 * MiB
      def holes():
        with open("sparse", "wb", buffering=0) as file:
          file.truncate(1 << 30)
          for number in range(16384):
            file.seek(number * 65536); file.write(bytes(4096)); yield (number + 1) * 4096
      def many():
        for number in range(20000):
          open(f"f{number}", "w").close(); yield number + 1
      def linked():
        # The same blocks under many names, and moved to and fro, are counted once and not set free.
        os.mkdir("d")
        for _ in write("one", 12 * MiB): pass
        for number in range(100): os.link("one", f"d/{number}")
        os.rename("one", "d/one"); os.rename("d/one", "two")
        for done in write("three"): yield done
      def gone():
        # Without a name, blocks are in use for as long as the file is open.
        with open("gone", "wb", buffering=0) as file:
          os.unlink("gone")
          for _ in range(12): file.write(bytes(MiB))
          for done in write("more"): yield done
      def attributes():
        # Values above 2 KiB have blocks of their own.
        for number in range(20000):
          open(f"x{number}", "w").close(); os.setxattr(f"x{number}", "user.big", bytes(16384)); yield (number + 1) * 16384
      for name, body in list(globals().items()):
        if name in ("write", "allocate", "holes", "many", "linked", "gone", "attributes"): end(name, body); clean()
      def project(name, change):
        handle = os.open(".", os.O_RDONLY)
        try:
          fields = list(struct.unpack("IIIII8x", fcntl.ioctl(handle, 0x801c581f, bytes(28))))
          change(fields)
          fcntl.ioctl(handle, 0x401c5820, struct.pack("IIIII8x", *fields)); print(f"{name}=fine")
        except OSError as error: print(f"{name}={errno.errorcode[error.errno]}")
        finally: os.close(handle)
      def none(fields): fields[3] = 0
      def next_one(fields): fields[3] += 1
      def alone(fields): fields[0] &= ~0x200
      project("project 0", none); project("project of another", next_one); project("no inheritance", alone)
      size = os.statvfs(".")
      print(f"df={size.f_blocks * size.f_frsize}"); print(f"inodes={size.f_files}")
      for _ in write("rest", 8 * MiB): pass
      """

    private func facts(_ text: String) -> [String: String] {
      Dictionary(
        text.split(separator: "\n").compactMap { line in
          let parts = line.split(separator: "=", maxSplits: 1)
          return parts.count == 2 ? (String(parts[0]), String(parts[1])) : nil
        }, uniquingKeysWith: { $1 })
    }

    @Test(.timeLimit(.minutes(15)))
    func `a workspace takes what its quota says, whichever way it is filled, and nobody else notices`() async throws {
      try await withSmallQuota { api in
        let neighbour = try await api.sh(
          "until test -e go; do sleep 0.1; done; head -c 12M /dev/zero > mine && sync mine && wc -c < mine")
        try await api.running(neighbour.id)
        let hostFree = try await Shell.must("sync; df --output=avail -k / | tail -n 1")
        let filled = try await api.ended(try await api.run("python3", ["-c", Quota.filler]).id)
        let output = String(decoding: try await api.text(filled.id), as: UTF8.self)
        let facts = facts(output)
        #expect(filled.exitCode == 0, "\(filled) \(output)")
        for way in ["write", "allocate", "holes", "linked", "gone", "attributes", "many"] {
          #expect(["EDQUOT", "ENOSPC"].contains(facts[way] ?? ""), "\(way): \(facts)")
          let got = Int(facts["\(way) got"] ?? "") ?? -1
          let most = ["linked", "gone"].contains(way) ? 4 << 20 : way == "many" ? 4096 : Quota.small
          #expect(got <= most, "\(way): \(got)")
          // Names take room too, and so does what the file system set aside for a file that is still open.
          #expect(got >= (["allocate", "gone"].contains(way) ? 0 : most / 2), "\(way): \(got)")
        }
        #expect(facts["clean"] == nil)
        for change in ["project 0", "project of another", "no inheritance"] {
          #expect(["EPERM", "EINVAL", "ENOTTY"].contains(facts[change] ?? ""), "\(change): \(facts)")
        }
        #expect(facts["df"] == "\(Quota.small)" && facts["inodes"] == "4096")
        // Full beside it, and nothing of its own is missing.
        try await Shell.must("touch \(workspace(neighbour))/go")
        let other = try await api.ended(neighbour.id)
        #expect(other.status == "COMPLETED")
        #expect(String(decoding: try await api.text(other.id), as: UTF8.self) == "12582912\n")
        let now = try await Shell.must("sync; df --output=avail -k / | tail -n 1")
        let lost =
          (Int(hostFree.trimmingCharacters(in: .whitespaces)) ?? 0)
          - (Int(now.trimmingCharacters(in: .whitespaces)) ?? 0)
        #expect(lost < 128 << 10, "the host lost \(lost) KiB")
      }
    }

    @Test(.timeLimit(.minutes(15)))
    func `a kept workspace stays counted, over a restart of exec too, and frees its place when it is removed`()
      async throws
    {
      try await withSmallQuota { api in
        let failed = try await api.finish("head -c 4M /dev/zero > left; mkdir d; touch d/e; exit 3").job
        let kept = try await project("\(Installed.jobs)/\(failed.id)")
        #expect(try await project(workspace(failed)) == kept && kept != 0)
        let before = try #require(try await account(kept))
        #expect(before.used >= 4096 && before.inodes == 5 && before.limit == 16384, "\(before)")
        // A running job's limit is the file system's, not exec's.
        let running = try await api.sh("until test -e go; do sleep 0.1; done; head -c 32M /dev/zero > big")
        try await api.running(running.id)
        let other = try await project(workspace(running))
        #expect(other != kept && other != 0)
        try await restartExec()
        let after = try #require(try await account(kept))
        #expect(after.used >= 4096 && after.inodes == 5 && after.limit == 16384, "\(after)")
        try await Shell.must("touch \(workspace(running))/go")
        let ended = try await api.ended(running.id)
        #expect(ended.status == "FAILED" && ended.reason == "exit_code")
        #expect((try #require(try await account(other))).used <= 16384)
        let third = try await api.finish("touch x; exit 3").job
        #expect(![kept, other].contains(try await project(workspace(third))))
        for job in [failed, running, third] {
          #expect(try await api.call("DELETE", "/v1/jobs/\(job.id)").status == 204)
        }
        try await eventually("nothing is left of the removed workspaces") {
          let gone = [try await account(kept) == nil, try await account(other) == nil]
          return gone == [true, true] && !FileManager.default.fileExists(atPath: "\(Installed.jobs)/\(failed.id)")
        }
      }
    }

    @Test(.timeLimit(.minutes(15)))
    func `a workspace whose limit is used up is removed all the same`() async throws {
      try await withSmallQuota { api in
        // Directories in directories, as many as there may be: removing them moves them up, which takes room in the top.
        let script = """
          import errno, os
          def fill(body):
            try:
              while True: body()
            except OSError as error: assert error.errno in (errno.ENOSPC, errno.EDQUOT), error
          big = open("big", "wb", buffering=0)
          numbers = iter(range(100000))
          fill(lambda: os.makedirs(f"{next(numbers)}/a/b/c"))
          fill(lambda: big.write(bytes(65536)))
          """
        let job = try await api.ended(try await api.run("python3", ["-c", script]).id)
        #expect(job.status == "COMPLETED", "\(job)")
        try await eventually("its workspace is gone") {
          !FileManager.default.fileExists(atPath: "\(Installed.jobs)/\(job.id)")
        }
      }
    }

    @Test(.timeLimit(.minutes(15)))
    func `a quota that would not hold stops the start, and says what to do`() async throws {
      let elsewhere = "/var/lib/joblet-test-jobs"
      defer { rmdir(elsewhere) }
      try await Systemd.disturbing {
        try await Systemd.withConfiguration(
          replacing: "baseDir: \(Installed.jobs)", with: "baseDir: \(elsewhere)",
          {
            let cursor = try await Systemd.cursor()
            _ = try await Shell.run(
              "systemctl stop joblet-exec.service; systemctl start --no-block joblet-exec.service")
            let sentence = try await eventually("exec says why it does not start") {
              let journal = try await Systemd.journal("joblet-exec.service", after: cursor)
              return journal.split(separator: "\n").first { $0.contains("filesystem.workspace.default_quota") }
            }
            for part in [elsewhere, "project quotas", "contrib/install", "prjquota", "default_quota to 0"] {
              #expect(sentence.contains(part), "\(sentence)")
            }
            #expect(try await !Systemd.isActive("joblet-exec.service"))
            let report = try await Shell.run("/opt/joblet/bin/joblet-exec workspaces")
            #expect(report.status == 1)
            #expect(report.text == "directory=\(elsewhere)\ndefault_quota=1073741824\nquota_state=missing\n")
          },
          after: {
            _ = try await Shell.run("systemctl stop joblet-exec.service; systemctl reset-failed joblet-exec.service")
          })
      }
      let report = try await Shell.run("/opt/joblet/bin/joblet-exec workspaces")
      #expect(report.status == 0 && report.text.contains("quota_state=enforced"), "\(report)")
    }

    @Test(.timeLimit(.minutes(15)))
    func `a limit on I/O holds on the disk behind the workspace`() async throws {
      let api = try API()
      let disk = try await Shell.must("findmnt -no MAJ:MIN -T \(Installed.jobs)").trimmingCharacters(in: .whitespaces)
      let limits: [String: Any] = ["limits": ["io_bps": 1 << 20]]
      let running = try await api.sh("until test -e go; do sleep 0.1; done", fields: limits)
      try await api.running(running.id)
      let files = try await Shell.must("cat \(Installed.jobsCgroup)/*/pay/io.max")
      #expect(files.contains("\(disk) rbps=1048576 wbps=1048576"), "\(files)")
      try await Shell.must("touch \(workspace(running))/go")
      _ = try await api.ended(running.id)
      let seconds = """
        begin=$(date +%s%N); dd if=/dev/zero of=f bs=256k count=32 oflag=direct 2>/dev/null; end=$(date +%s%N)
        echo $(((end - begin) / 1000000))
        """
      let slow = try await api.finish(seconds, fields: limits)
      // 8 MiB at 1 MiB a second; the first of them may go at once.
      #expect((Int(slow.stdout.trimmingCharacters(in: .newlines)) ?? 0) >= 6000, "\(slow)")
    }
  }
}
