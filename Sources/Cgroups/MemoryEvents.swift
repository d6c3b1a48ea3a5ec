import LinuxKernel

/// What the kernel counted of a payload's memory (`memory.events`).
///
/// `oom_kill` counts kills by *any* OOM killer, that of the whole host too. `oom` counts only the times when the limit of this
/// very cgroup, or of one below it, was reached and nothing could be reclaimed: a limit further up counts further up, and
/// a host without memory counts nowhere (mm/memcontrol.c, mem_cgroup_oom; mm/oom_kill.c, __oom_kill_process). `pay/` has no
/// cgroups below it, so its `memory.events` and `memory.events.local` say the same.
public struct MemoryEvents: Hashable, Sendable {
  public var limitReached: Int64
  public var kills: Int64

  public init(limitReached: Int64, kills: Int64) {
    self.limitReached = limitReached
    self.kills = kills
  }
}

extension JobCgroup {
  /// Nil where there is no memory controller.
  public func memoryEvents() throws(Errno) -> MemoryEvents? {
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 4096, alignment: 8)
    defer { buffer.deallocate() }
    return try payLeaf.figure("memory.events", buffer) {
      MemoryEvents(
        limitReached: FigureText.value(of: "oom", in: $0) ?? 0, kills: FigureText.value(of: "oom_kill", in: $0) ?? 0)
    }
  }
}
