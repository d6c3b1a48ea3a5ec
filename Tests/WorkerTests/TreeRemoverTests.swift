import Glibc
import LinuxKernel
import Testing
import Worker

@Suite struct TreeRemoverTests {
  let directory = TemporaryDirectory()
  var tree: String { directory.path + "/tree" }

  private func file(_ path: String) { close(open(path, O_CREAT | O_WRONLY, 0o600)) }
  private func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

  @Test func whatIsNotThereIsFine() throws {
    try TreeRemover.remove("tree", in: directory.path)
  }

  @Test(arguments: [true, false]) func filesDirectoriesAndStrangeNamesGo(moving: Bool) throws {
    mkdir(tree, 0o700)
    mkdir(tree + "/empty", 0o700)
    mkdir(tree + "/a", 0o000)
    mkdir(tree + "/.joblet-1", 0o700)
    file(tree + "/.joblet-2")
    mkdir(tree + "/a/b", 0o700)
    mkdir(tree + "/a/b/c", 0o700)
    file(tree + "/a/b/c/f")
    file(tree + "/.joblet-1/f")
    mkfifo(tree + "/fifo", 0o600)
    let strange: [CChar] = Array(tree.utf8CString.dropLast()) + [47, -1, -2, 10, 39, 0]  // not UTF-8
    mkdir(strange, 0o700)
    try TreeRemover.remove("tree", in: directory.path, moving: moving)
    #expect(!exists(tree))
  }

  @Test(arguments: [true, false]) func linksAreRemovedAndNeverFollowed(moving: Bool) throws {
    let outside = directory.path + "/outside"
    mkdir(outside, 0o700)
    file(outside + "/precious")
    mkdir(tree, 0o700)
    mkdir(tree + "/d", 0o700)
    symlink(outside, tree + "/link")
    symlink(outside, tree + "/d/link")
    symlink("/", tree + "/d/root")
    try TreeRemover.remove("tree", in: directory.path, moving: moving)
    #expect(exists(outside + "/precious"))
    #expect(!exists(tree))
  }

  @Test func aTreeThatIsALinkItselfIsNotEntered() throws {
    let outside = directory.path + "/outside"
    mkdir(outside, 0o700)
    file(outside + "/precious")
    symlink(outside, tree)
    #expect(throws: (any Error).self) { try TreeRemover.remove("tree", in: directory.path) }
    #expect(exists(outside + "/precious"))
  }

  /// Deeper than any path may be long, and than there are descriptors.
  @Test(arguments: [true, false]) func depthCostsNothing(moving: Bool) throws {
    mkdir(tree, 0o700)
    var here = open(tree, O_RDONLY | O_DIRECTORY)
    for _ in 0..<5000 {
      #expect(mkdirat(here, "dddddddddd", 0o700) == 0)
      let next = openat(here, "dddddddddd", O_RDONLY | O_DIRECTORY)
      close(here)
      here = next
    }
    close(here)
    try TreeRemover.remove("tree", in: directory.path, moving: moving)
    #expect(!exists(tree))
  }

  @Test(arguments: [2, 3, 64]) func aWayThatIsForgottenIsGoneDownAgain(levels: Int) throws {
    makeDeep(300)
    try TreeRemover.remove("tree", in: directory.path, moving: false, remembering: levels)
    #expect(!exists(tree))
  }

  /// `tree/d/d/…`, with a file in each.
  private func makeDeep(_ depth: Int) {
    var path = tree
    for _ in 0...depth {
      mkdir(path, 0o700)
      file(path + "/f")
      path += "/d"
    }
  }

  /// Somebody moves a directory away that the walk is in, or below: `..` is then none of the tree's, or one too high.
  @Test(
    arguments: [
      ("a/b/c", "../out"), ("a/b/c", "out"), ("a/b", "../out"), ("a/b", "../beside/deep/out"), ("a", "../out"),
    ], [1 << 16, 2])
  func aDirectoryThatIsMovedAwayLeadsNowhereElse(move: (from: String, to: String), levels: Int) throws {
    let base = directory.path + "/base"
    let tree = base + "/tree"
    for path in [base, base + "/beside", base + "/beside/deep"] {
      mkdir(path, 0o700)
      file(path + "/precious")
    }
    for path in ["", "/a", "/a/b", "/a/b/c"] { mkdir(tree + path, 0o700) }
    file(tree + "/a/b/c/f")
    var isMoved = false
    var failure: Errno?
    do {
      try TreeRemover.remove("tree", in: base, moving: false, remembering: levels) { depth in
        guard depth == 3, !isMoved else { return }
        isMoved = true
        #expect(rename("\(tree)/\(move.from)", "\(tree)/\(move.to)") == 0)
      }
    } catch { failure = error }
    #expect(isMoved)
    for path in [base, base + "/beside", base + "/beside/deep"] { #expect(exists(path + "/precious")) }
    // What forgot its way does not look up where it was moved.
    if levels > 2 { #expect(failure?.code == ESTALE) }
  }

  @Test func twoRemoversAtOnceHarmNothingElse() async throws {
    let queue = try WorkQueue(name: "remove", threads: 2)
    let parent = directory.path
    file(parent + "/precious")
    for round in 0..<40 {
      makeDeep(40)
      await withTaskGroup(of: Void.self) { group in
        for _ in 0..<2 {
          group.addTask {
            // One of the two finds that what it removes is gone, moved or not empty: it may fail, and do nothing worse.
            do { try await queue.run { try TreeRemover.remove("tree", in: parent, moving: round % 2 == 0) } } catch {}
          }
        }
      }
      #expect(exists(parent + "/precious"))
      try TreeRemover.remove("tree", in: parent)
      #expect(!exists(tree))
    }
  }

  @Test(arguments: [true, false]) func manyEntriesGoInBatches(moving: Bool) throws {
    mkdir(tree, 0o700)
    for number in 0..<3000 { file(tree + "/f\(number)") }
    for number in 0..<100 {
      mkdir(tree + "/d\(number)", 0o700)
      file(tree + "/d\(number)/f")
    }
    try TreeRemover.remove("tree", in: directory.path, moving: moving)
    #expect(!exists(tree))
  }
}
