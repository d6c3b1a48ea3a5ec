import BenchmarkKit

#if canImport(Glibc)
  import Glibc
#endif

/// An OCI bundle whose container is what a job of Joblet's is, as far as OCI can say it.
struct RuncBundle {
  let bed: Bed
  let filter: PayloadFilter

  /// A range of host IDs; runc gets one for all, Joblet each job its own.
  private let firstID = 1_600_000_000

  func write(to path: String) throws {
    let root = "\(path)/rootfs"
    var script = "set -e; mkdir -p '\(root)'/{proc,dev,tmp,work,sys} '\(path)/state' '\(path)/work'; cd '\(root)'"
    var mounts: [String] = [
      #"{"destination":"/proc","type":"proc","source":"proc"}"#,
      #"{"destination":"/dev","type":"tmpfs","source":"tmpfs","options":["nosuid","mode=755","size=64k"]}"#,
      #"{"destination":"/dev/pts","type":"devpts","source":"devpts","options":["nosuid","noexec","newinstance","ptmxmode=0666","mode=0620"]}"#,
      #"{"destination":"/dev/shm","type":"tmpfs","source":"shm","options":["nosuid","nodev","noexec","mode=1777","size=64m"]}"#,
      #"{"destination":"/tmp","type":"tmpfs","source":"tmpfs","options":["nosuid","nodev","mode=1777","size=64m"]}"#,
      "{\"destination\":\"/work\",\"type\":\"bind\",\"source\":\"\(path)/work\",\"options\":[\"bind\",\"nosuid\",\"nodev\"]}",
    ]
    for path in bed.allowedMounts where access(path, F_OK) == 0 {
      if let target = linkTarget(path) {
        script += "; ln -s '\(target)' '.\(path)'"
      } else {
        script += "; mkdir -p '.\(path)'"
        mounts.append(
          "{\"destination\":\"\(path)\",\"type\":\"bind\",\"source\":\"\(path)\",\"options\":[\"rbind\",\"ro\",\"nosuid\",\"nodev\"]}"
        )
      }
    }
    script += "; chown -R \(firstID):\(firstID) '\(root)' '\(path)/work'"
    guard try Child(["bash", "-c", script]).wait() == 0 else { throw BenchmarkError("runc's bundle could not be made") }
    try writeFile("\(path)/config.json", try configuration(mounts))
  }

  private func configuration(_ mounts: [String]) throws -> String {
    func list(_ items: [String]) -> String { "[\(items.map { "\"\($0)\"" }.joined(separator: ","))]" }
    let namespaces = ["pid", "network", "ipc", "uts", "mount", "cgroup", "user"].map { "{\"type\":\"\($0)\"}" }
    let map = "[{\"containerID\":0,\"hostID\":\(firstID),\"size\":65536}]"
    let masked = [
      "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
      "/proc/scsi", "/proc/sched_debug", "/proc/timer_list", "/proc/timer_stats",
    ]
    let readOnly = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
    let resources =
      bed.hasLimits
      ? #"{"memory":{"limit":268435456},"cpu":{"quota":200000,"period":100000},"pids":{"limit":64}}"# : "{}"
    let names = try filter.allowedNames()
    return """
      {"ociVersion":"1.0.2","hostname":"job",
       "process":{"terminal":false,"user":{"uid":65534,"gid":65534},"args":["\(bed.directory)/bin/first-instruction"],
        "env":["PATH=/usr/bin:/bin"],"cwd":"/work","noNewPrivileges":true,
        "capabilities":{"bounding":[],"effective":[],"permitted":[],"inheritable":[],"ambient":[]}},
       "root":{"path":"rootfs","readonly":true},
       "mounts":[\(mounts.joined(separator: ","))],
       "linux":{"uidMappings":\(map),"gidMappings":\(map),"namespaces":[\(namespaces.joined(separator: ","))],
        "maskedPaths":\(list(masked)),"readonlyPaths":\(list(readOnly)),"resources":\(resources),
        "seccomp":{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":\(list(names)),"action":"SCMP_ACT_ALLOW"}]}}}

      """
  }
}
