import Glibc
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
