/// What the kernel's Landlock can do, and what a job gets of it (landlock(7), Documentation/userspace-api/landlock.rst).
///
/// Numbers and not the header's names: those of younger rights are not in every distribution's headers.
public struct LandlockSupport: Hashable, Sendable {
  /// The version of the kernel's interface, from landlock_create_ruleset(2). At least ``leastABI``.
  public let abi: Int

  /// 2, Linux 5.19: before it no file can be moved to another directory, by anyone under any rules.
  public static let leastABI = 2

  /// Nil if the kernel's Landlock is absent, off, or too old.
  public init?(abi: Int) {
    guard abi >= LandlockSupport.leastABI else { return nil }
    self.abi = abi
  }

  /// Every right to files that this kernel knows, up to ABI 7: what no rule grants is refused. With fewer, the ones left out
  /// would be everybody's everywhere.
  public var handled: LandlockRights {
    var rights = LandlockRights(rawValue: (1 << 14) - 1)
    if abi >= 3 { rights.insert(.truncate) }
    if abi >= 5 { rights.insert(.deviceRequests) }
    return rights
  }

  /// LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET and LANDLOCK_SCOPE_SIGNAL: nobody outside the job, joblet-init included, can be
  /// signalled, or connected to by an abstract name.
  public var scoped: UInt64 { abi >= 6 ? 0b11 : 0 }
}

/// LANDLOCK_ACCESS_FS_*; the raw values are the kernel's.
public struct LandlockRights: OptionSet, Hashable, Sendable {
  public let rawValue: UInt64
  public init(rawValue: UInt64) { self.rawValue = rawValue }

  public static let execute = LandlockRights(rawValue: 1 << 0)
  public static let writeFile = LandlockRights(rawValue: 1 << 1)
  public static let readFile = LandlockRights(rawValue: 1 << 2)
  public static let readDirectory = LandlockRights(rawValue: 1 << 3)
  public static let makeCharacterDevice = LandlockRights(rawValue: 1 << 6)
  public static let makeBlockDevice = LandlockRights(rawValue: 1 << 11)
  /// Since ABI 3.
  public static let truncate = LandlockRights(rawValue: 1 << 14)
  /// ioctl(2) of a device opened later. Since ABI 5.
  public static let deviceRequests = LandlockRights(rawValue: 1 << 15)

  static let read: LandlockRights = [.readFile, .readDirectory]
}

extension PlanMaker {
  /// A ruleset for the job's root as the steps before have built it; the payload enters it.
  static func landlock(_ settings: SandboxSettings, _ mounts: [String]) -> [PlanStep] {
    guard let support = settings.landlock else { return [] }
    let handled = support.handled
    // All that a directory's owner may do but make devices, which no file system of a job honours, and speak to some.
    let all = handled.subtracting([.makeCharacterDevice, .makeBlockDevice, .deviceRequests])
    func allow(_ path: String, _ rights: LandlockRights) -> PlanStep {
      .landlockAllow(path: path, rights.intersection(handled))
    }
    var steps: [PlanStep] = [.landlockRules(handled: handled, scoped: support.scoped)]
    // Rules lie on the files themselves, not on names: after pivot_root, when a path can mean the job's file only.
    steps.append(allow("/", .read))
    steps += mounts.map { allow($0, [.execute, .readFile, .readDirectory]) }
    // A process's own settings, such as its name and oom_score_adj; what is the kernel's is read-only by its mount.
    steps.append(allow("/proc", [.readFile, .readDirectory, .writeFile, .truncate]))
    // Truncating a device does nothing; but the kernel asks at each open whether it would be allowed, and looks up to the root for it.
    steps.append(allow("/dev", [.readFile, .readDirectory, .writeFile, .truncate, .deviceRequests]))
    steps.append(allow("/dev/shm", all.subtracting(.execute)))
    steps.append(allow("/tmp", all))
    steps.append(allow(settings.workspacePath, all))
    return steps
  }
}
