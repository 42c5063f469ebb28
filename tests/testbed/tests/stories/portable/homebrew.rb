# SPDX-License-Identifier: MIT OR Apache-2.0
# Stands in for Homebrew: homebrew.rb FORMULA. What a formula calls is printed; installing a missing file and a failed test end it. The
# formula's test runs the program below $BIN.
class Place
  def initialize(name) = @name = name
  def install(*files)
    files.each do |file|
      abort "#{file} is missing" unless File.file?(file)
      puts "#{@name} #{file}"
    end
  end
  def to_s = @name
end
class Formula
  class << self
    attr_reader :said, :tests
    def method_missing(name, *values, **named) = (@said ||= {})[name] = [*values, *named.values]
    def respond_to_missing?(*) = true
    def test(&block) = @tests = block
  end
  %w[man1 man5 bash_completion zsh_completion fish_completion pkgshare].each do |place|
    define_method(place) { Place.new(place) }
  end
  def bin = ENV.fetch("BIN")
  def version = ENV.fetch("VERSION")
  def std_cargo_args(path:) = ["--locked", "--root=/prefix", "--path=#{path}"]
  def system(*words) = puts("system #{words.join(" ")}")
  def shell_output(command, status = 0)
    output = `#{command}`
    abort "#{command} ended with #{$?.exitstatus}" unless $?.exitstatus == status
    output
  end
  def assert_match(expected, found) = found.include?(expected) || abort("#{expected} is not in #{found}")
end
load ARGV[0]
puts MytokenSsh.said.values_at(:url, :sha256, :license).join(" ")
MytokenSsh.new.install
MytokenSsh.new.instance_eval(&MytokenSsh.tests)
