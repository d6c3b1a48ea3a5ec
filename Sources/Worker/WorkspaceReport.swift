import Glibc
import JobletConfig
import LinuxKernel

/// What an installer or an operator wants to know of the workspaces, without starting anything.
public struct WorkspaceReport: Sendable {
  /// `filesystem.baseDir`.
  public var directory: String
  /// `filesystem.workspace.default_quota` in bytes; 0: none.
  public var quota: Int64
  /// What the file system there does with project quotas: `enforced`, `counted` or `missing`, which is also said of a
  /// directory that is not there yet.
  public var state: String

  /// - Parameter directory: another directory to look at than the configured one.
  /// - Throws: what the kernel said to looking at it. Needs read permission for it.
  public init(_ configuration: Configuration, directory: String? = nil) throws {
    self.directory = directory ?? configuration.filesystem.baseDir
    quota = configuration.filesystem.workspace.defaultQuota
    state = "\(try WorkspaceReport.look(at: self.directory))"
  }

  private static func look(at path: String) throws(Errno) -> ProjectQuota.State {
    let directory: FileDescriptor
    do {
      directory = try FileDescriptor.open(path, O_RDONLY | O_DIRECTORY)
    } catch let error where error.code == ENOENT {
      return .missing
    }
    return try ProjectQuota.state(of: directory)
  }

  /// Whether the quota, if there is one, would hold.
  public var holds: Bool { quota == 0 || state == "enforced" }
}
