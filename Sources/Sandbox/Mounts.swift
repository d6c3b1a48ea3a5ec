extension PlanMaker {
  /// Places in a job's root that are joblet's own: a bind there would uncover what the plan has put in its place.
  private static let reserved = ["/proc", "/sys", "/dev", "/tmp", "/run/joblet", "/opt/joblet"]

  /// The node's `allowed_mounts`, checked, sorted, and without those that lie below another one (its bind is recursive).
  static func validatedMounts(_ settings: SandboxSettings) throws(SandboxError) -> [String] {
    let workspace = settings.workspacePath
    try check(workspace, key: "filesystem.workspaceDir")
    try check(settings.stagingDirectory, key: "staging directory")
    guard settings.tmpSize > 0 else {
      throw SandboxError(
        field: "filesystem.tmpSize", message: "\(settings.tmpSize) is not allowed; allowed is 1 or more")
    }
    var kept: [String] = []
    for path in settings.allowedMounts.sorted() {
      try check(path, key: "filesystem.allowedMounts")
      if isSame(path, orBelow: workspace) || isSame(workspace, orBelow: path) {
        throw SandboxError(
          field: "filesystem.allowedMounts", message: "'\(path)' and the workspace '\(workspace)' cover each other")
      }
      if !kept.contains(where: { isSame(path, orBelow: $0) }) { kept.append(path) }
    }
    return kept
  }

  private static func check(_ path: String, key: String) throws(SandboxError) {
    let parts = path.split(separator: "/", omittingEmptySubsequences: false).dropFirst()
    guard path.hasPrefix("/"), path.utf8.count < 4096, !path.utf8.contains(0),
      !parts.contains(where: { $0.isEmpty || $0 == "." || $0 == ".." })
    else {
      throw SandboxError(
        field: key,
        message:
          "'\(path.prefix(128))' is not allowed; allowed is an absolute path below / without '.', '..' or empty parts")
    }
    guard key == "staging directory" || !reserved.contains(where: { isSame(path, orBelow: $0) }) else {
      throw SandboxError(
        field: key, message: "'\(path)' is not allowed: \(reserved.joined(separator: ", ")) are joblet's own")
    }
  }

  static func isSame(_ path: String, orBelow parent: String) -> Bool {
    path == parent || path.hasPrefix(parent + "/")
  }
}
