import ArgumentParser
import Glibc
import JobletModel

/// `rnx manual`: writes the man pages. contrib/install calls it; people call man.
public struct Manual: AsyncParsableCommand {
  public static let configuration = CommandConfiguration(
    abstract: "Writes rnx's man pages into a folder.", shouldDisplay: false)

  @Argument(help: ArgumentHelp("Where to: a folder that exists.", valueName: "folder"), completion: .directory)
  public var folder: String

  public init() {}

  public func run() async throws {
    for page in try ManualPage.all() {
      let path = "\(folder)/\(page.file)"
      let file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
      guard file >= 0 else {
        throw Failure(
          "\(path) can't be written", why: String(cString: strerror(errno)), next: "name a folder you may write to")
      }
      defer { close(file) }
      try await Terminal().write(Array(page.text.utf8), to: file)
    }
  }
}
