// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/test/kube"
	"github.com/ironcore-dev/ipam-apiserver/test/process"
	"github.com/itchyny/gojq"
)

// The test runs these parts of a page:
//
//	```console            a line that begins with "$ " is a command, what follows is its output, in which a
//	$ kubectl get pfx     line "..." stands for any lines
//	...
//	```
//	```yaml               a block that begins with "# file: NAME" is written into that file
//	# file: NAME
//	```
//	<!-- serve --flag -->  a server that the page does not show
//	<!-- run              commands that the page does not show
//	kubectl create ...
//	-->
//
// Blocks of other languages are not run. The commands of a page run in one shell, in a directory with the files of the
// repository. "make run" and "bin/ipam-standalone", with flags, start a server in the background. "kubectl ipam ui" opens its
// page in a browser that reads it, and is ended then.

// patience is the maximum time for a command, or for the start of a server, on a busy machine.
const patience = 60 * time.Second

// stepKind is the kind of a step.
type stepKind int

const (
	// runCommand runs a command and compares its output.
	runCommand stepKind = iota
	// runHidden runs commands that must succeed. Their output does not matter.
	runHidden
	// writeFile writes a file.
	writeFile
)

// step is one step of a page.
type step struct {
	kind stepKind
	// line is its line number on the page.
	line int
	// text is the command, or the content of the file.
	text string
	// output is the output of the command, or the name of the file.
	output string
}

// steps returns the steps of a page.
func steps(page string) ([]step, error) {
	var found []step
	lines := strings.Split(page, "\n")
	// until returns the lines from i up to the end line, and moves i to that line.
	until := func(i *int, end string) ([]string, error) {
		begin := *i
		for ; *i < len(lines); *i++ {
			if lines[*i] == end {
				return lines[begin:*i], nil
			}
		}
		return nil, fmt.Errorf("line %d: nothing ends what begins here", begin)
	}
	for i := 0; i < len(lines); i++ {
		begin := i + 1
		switch {
		case lines[i] == "```console":
			i++
			block, err := until(&i, "```")
			if err != nil {
				return nil, err
			}
			commands, err := console(block, begin+1)
			if err != nil {
				return nil, err
			}
			found = append(found, commands...)
		case hiddenServer.MatchString(lines[i]):
			flags := hiddenServer.FindStringSubmatch(lines[i])[1]
			found = append(found,
				step{kind: runCommand, line: begin, text: "bin/ipam-standalone" + flags, output: "...\n"},
				step{kind: runHidden, line: begin, text: "export KUBECONFIG=.ipam/kubeconfig"})
		case lines[i] == "<!-- run":
			i++
			block, err := until(&i, "-->")
			if err != nil {
				return nil, err
			}
			found = append(found, step{kind: runHidden, line: begin, text: strings.Join(block, "\n")})
		case strings.HasPrefix(lines[i], "```"):
			i++
			block, err := until(&i, "```")
			if err != nil {
				return nil, err
			}
			if len(block) > 0 {
				if name, ok := strings.CutPrefix(block[0], "# file: "); ok {
					found = append(found, step{writeFile, begin, strings.Join(block, "\n") + "\n", name})
				}
			}
		}
	}
	return found, nil
}

// hiddenServer matches a comment that starts a server.
var hiddenServer = regexp.MustCompile(`^<!-- serve( .*)? -->$`)

// hereDocument matches the beginning of a here-document in a command.
var hereDocument = regexp.MustCompile(`<<(\w+)`)

// console returns the commands in a code block that begins at the given line.
func console(block []string, line int) ([]step, error) {
	var found []step
	for i := 0; i < len(block); i++ {
		command, ok := strings.CutPrefix(block[i], "$ ")
		if !ok {
			if len(found) == 0 {
				return nil, fmt.Errorf("line %d: output without a command", line+i)
			}
			found[len(found)-1].output += block[i] + "\n"
			continue
		}
		found = append(found, step{kind: runCommand, line: line + i})
		// through adds the lines up to the end line to the command.
		through := func(end string) {
			for i+1 < len(block) {
				i++
				command += "\n" + block[i]
				if block[i] == end {
					return
				}
			}
		}
		for strings.HasSuffix(command, `\`) && i+1 < len(block) {
			i++
			command += "\n" + block[i]
		}
		if match := hereDocument.FindStringSubmatch(command); match != nil {
			through(match[1])
		}
		if strings.HasPrefix(command, "for ") {
			through("done")
		}
		found[len(found)-1].text = command
	}
	return found, nil
}

// servers maps the commands that start a server to the program and the flags to run instead.
var servers = map[string]string{
	"make run":            "bin/ipam-standalone --samples config/samples",
	"bin/ipam-standalone": "bin/ipam-standalone",
}

// notRun contains commands that are not run, because the test has done the same, or because they take too long.
var notRun = []string{"make build"}

// elsewhere is a page whose commands need a cluster with Cluster API. The tests in clusterapi/test run them.
const elsewhere = "docs/cluster-api.md"

// asked matches commands that may be repeated until they print what the page shows, because, for example, the
// status of a parent follows its children.
var asked = regexp.MustCompile(`^(kubectl (get|describe)|(kubectl |bin/kubectl-)ipam (tree|who|why|free|show|map))\b`)

// unstable contains patterns of output that differs between runs, and their replacements.
var unstable = []struct {
	pattern *regexp.Regexp
	by      string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`), "<time>"},
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "<uid>"},
	{regexp.MustCompile(`\b(\w+(?:-\w+)*)-[0-9a-f]{16}\b`), "$1-<sum>"},
	{regexp.MustCompile(`127\.0\.0\.1:\d+/[\w-]{43}/`), "127.0.0.1:<port>/<token>/"},
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "127.0.0.1:<port>"},
	{regexp.MustCompile(`\b\d+ bytes; it was \d+\b`), "<bytes>"},
	// Ages.
	{regexp.MustCompile(`\b(\d+[smhd])+\b`), "<age>"},
	{regexp.MustCompile(`[ \t]+`), " "},
	{regexp.MustCompile(` ?\n`), "\n"},
}

// normal replaces the parts of the output that differ between runs.
func normal(output string) string {
	output = strings.TrimRight(output, "\n") + "\n"
	for _, u := range unstable {
		output = u.pattern.ReplaceAllString(output, u.by)
	}
	return strings.Trim(output, "\n")
}

// matches reports whether output is the same as the page shows.
func matches(output, shown string) bool {
	pattern := ""
	for line := range strings.Lines(normal(shown) + "\n") {
		if line == "...\n" {
			pattern += `(.*\n)*`
		} else {
			pattern += regexp.QuoteMeta(line)
		}
	}
	return regexp.MustCompile(`^` + pattern + `$`).MatchString(normal(output) + "\n")
}

// session runs the commands of one page.
type session struct {
	t     *testing.T
	dir   string
	input io.Writer
	// lines receives the lines that the shell prints.
	lines chan string
}

// mark begins the line after the output of a command. The exit code follows it.
const mark = "--- end of the command: "

// newSession starts the shell of a page, in a directory with the programs and the files of the repository.
func newSession(t *testing.T, programs map[string]string) *session {
	t.Helper()
	s := &session{t: t, dir: t.TempDir(), lines: make(chan string, 1000)}
	link := func(target, name string) {
		if err := os.Symlink(target, filepath.Join(s.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"config", "docs"} {
		link(filepath.Join(kube.Root(), name), name)
	}
	if err := os.Mkdir(filepath.Join(s.dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, path := range programs {
		link(path, filepath.Join("bin", name))
	}
	// The browser says only what it was asked to open.
	if err := os.WriteFile(filepath.Join(s.dir, "bin", "xdg-open"), []byte("#!/bin/sh\nprintf %s \"$1\" >opened\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	shell := exec.CommandContext(t.Context(), "bash", "--norc")
	shell.Dir = s.dir
	shell.Env = append(os.Environ(), "PATH="+filepath.Join(s.dir, "bin")+":"+os.Getenv("PATH"),
		"KUBECONFIG="+filepath.Join(s.dir, "nothing"), "KUBECACHEDIR="+filepath.Join(s.dir, "cache"), asJQ+"=yes")
	var err error
	if s.input, err = shell.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	output, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	shell.Stdout, shell.Stderr = write, write
	if err := shell.Start(); err != nil {
		t.Fatal(err)
	}
	_ = write.Close()
	go func() {
		defer close(s.lines)
		for scanner := bufio.NewScanner(output); scanner.Scan(); {
			s.lines <- scanner.Text()
		}
		_ = shell.Wait()
		_ = output.Close()
	}()
	return s
}

// run runs a command and returns its output and exit code.
func (s *session) run(command string) (output string, code int) {
	s.t.Helper()
	if _, err := fmt.Fprintf(s.input, "%s\nprintf '\\n%s%%d\\n' $?\n", command, mark); err != nil {
		s.t.Fatalf("%s: %v", command, err)
	}
	limit := time.After(patience)
	for {
		select {
		case line, ok := <-s.lines:
			if !ok {
				s.t.Fatalf("the shell has ended, after\n%s", output)
			}
			if end, ok := strings.CutPrefix(line, mark); ok {
				code, err := strconv.Atoi(end)
				if err != nil {
					s.t.Fatal(err)
				}
				return s.asShown(strings.TrimSuffix(output, "\n")), code
			}
			output += line + "\n"
		case <-limit:
			s.t.Fatalf("%s: not done after %v:\n%s", command, patience, output)
		}
	}
}

// asShown returns the output as if the checkout were in the home directory of the reader.
func (s *session) asShown(output string) string {
	return strings.ReplaceAll(output, s.dir, "/home/you/ipam-apiserver")
}

// ready is the beginning of the output of a server.
const ready = "ipam-standalone is ready"

// serve starts a server in the background, and waits until it has printed what the page shows.
func (s *session) serve(program, flags, shown string) {
	s.t.Helper()
	// Its log goes to a file: on a busy machine etcd warns that it is slow.
	log := filepath.Join(s.dir, "server.log")
	s.t.Cleanup(func() {
		if text, err := os.ReadFile(log); err == nil && s.t.Failed() {
			s.t.Logf("The server logs:\n%.3000s", text)
		}
	})
	p := process.Start(s.t, s.dir, "bash", "-c", "cd "+s.dir+" && exec "+servers[program]+" --secure-port 0 "+flags+" 2>"+log)
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		output := s.asShown(p.LastOfLog(1 << 20))
		if strings.HasPrefix(output, ready) && matches(output, shown) {
			return
		}
		if p.HasEnded() || time.Since(began) > patience {
			s.t.Fatalf("%s %s prints\n%s\nand not\n%s", program, flags, output, shown)
		}
	}
}

// browser matches the commands that open a page in the browser.
var browser = regexp.MustCompile(`^(bin/kubectl-|kubectl )ipam ui$`)

// browse runs a command that opens a page, waits until it has printed what the documentation shows, and reads the page.
func (s *session) browse(command, shown string) {
	s.t.Helper()
	log, opened := filepath.Join(s.dir, "ui.log"), filepath.Join(s.dir, "opened")
	s.run(command + " >ui.log 2>&1 &")
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		output, err := os.ReadFile(log)
		if err == nil && matches(s.asShown(string(output)), shown) {
			break
		}
		if time.Since(began) > patience {
			s.t.Fatalf("%s prints\n%s\nand not\n%s", command, output, shown)
		}
	}
	var page string
	for began := time.Now(); page == ""; time.Sleep(50 * time.Millisecond) {
		file, err := os.ReadFile(opened)
		if err == nil {
			file, err = os.ReadFile(string(file))
		}
		if link := regexp.MustCompile(`url=(http://127[^"]*/)"`).FindSubmatch(file); err == nil && link != nil {
			page = string(link[1])
		}
		if time.Since(began) > patience {
			s.t.Fatalf("%s opens %q, %v", command, file, err)
		}
	}
	for path, part := range map[string]string{"": "<title>Address space</title>", "main.js": "import", "api/tree?count=100": `"name":"root"`} {
		answer := ""
		for began := time.Now(); !strings.Contains(answer, part); time.Sleep(50 * time.Millisecond) {
			response, err := http.Get(page + path)
			if err != nil {
				s.t.Fatal(err)
			}
			body, err := io.ReadAll(response.Body)
			response.Body.Close()
			if answer = string(body); err != nil || time.Since(began) > patience {
				s.t.Fatalf("%s%s has no %s: %v\n%s", page, path, part, err, answer)
			}
		}
	}
	if output, code := s.run("kill $! && wait $!"); code != 0 {
		s.t.Errorf("%s ends with %d: %s", command, code, output)
	}
}

// take executes a step.
func (s *session) take(step step) {
	s.t.Helper()
	if step.kind == writeFile {
		if err := os.WriteFile(filepath.Join(s.dir, step.output), []byte(step.text), 0o600); err != nil {
			s.t.Fatal(err)
		}
		return
	}
	if slices.Contains(notRun, step.text) {
		return
	}
	for program := range servers {
		if flags, ok := strings.CutPrefix(step.text, program); ok && (flags == "" || flags[0] == ' ') {
			s.serve(program, flags, step.output)
			return
		}
	}
	if step.kind == runCommand && browser.MatchString(step.text) {
		s.browse(step.text, step.output)
		return
	}
	output, code := s.run(step.text)
	if step.kind == runHidden {
		if code != 0 {
			s.t.Fatalf("line %d: exit code %d of\n%s\nwhich prints\n%s", step.line, code, step.text, output)
		}
		return
	}
	for began := time.Now(); !matches(output, step.output); output, _ = s.run(step.text) {
		if !asked.MatchString(step.text) || time.Since(began) > patience {
			s.t.Fatalf("line %d: $ %s\nprints\n%s\nand not\n%s", step.line, step.text, output, step.output)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// asJQ is set in the environment of the shell. With it, this program acts as jq.
const asJQ = "IPAM_TEST_AS_JQ"

func TestMain(m *testing.M) {
	if os.Getenv(asJQ) != "" && filepath.Base(os.Args[0]) == "jq" {
		if err := jq(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, "jq:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// jq implements the parts of jq that the pages use: jq FILTER [FILE], jq -f FILE.
func jq(args []string) error {
	filter := args[0]
	if args = args[1:]; filter == "-f" {
		program, err := os.ReadFile(args[0])
		if err != nil {
			return err
		}
		filter, args = string(program), args[1:]
	}
	input := os.Stdin
	if len(args) > 0 {
		var err error
		if input, err = os.Open(args[0]); err != nil {
			return err
		}
		defer input.Close()
	}
	query, err := gojq.Parse(filter)
	if err != nil {
		return err
	}
	var document any
	if err := json.NewDecoder(input).Decode(&document); err != nil {
		return err
	}
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetIndent("", "  ")
	for results := query.Run(document); ; {
		result, ok := results.Next()
		if !ok {
			return nil
		}
		if err, failed := result.(error); failed {
			return err
		}
		if err := encoder.Encode(result); err != nil {
			return err
		}
	}
}

// tour are the commands that docs/tour.md has at least.
var tour = []string{"make run", "bin/kubectl-ipam tree", "bin/kubectl-ipam who 10.0.0.1", "bin/kubectl-ipam claim --from root --length 24 -q", "bin/kubectl-ipam why too-large",
	"bin/kubectl-ipam free root", "bin/kubectl-ipam map root", "bin/kubectl-ipam ui"}

// TestCommands runs the commands of every page, and compares their output with the page.
func TestCommands(t *testing.T) {
	t.Parallel()
	kube.NewKubectl(t, "")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	built := t.TempDir()
	programs := map[string]string{"kubectl": kube.Program("kubectl"), "jq": self, "ipam-standalone": filepath.Join(built, "ipam-standalone"),
		"kubectl-ipam": filepath.Join(built, "kubectl-ipam")}
	build := exec.Command("go", "build", "-o", built+string(filepath.Separator), "./cmd/ipam-standalone", "./cmd/kubectl-ipam")
	build.Dir = kube.Root()
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if makefile := read(t, "Makefile"); !strings.Contains(makefile, strings.Replace(servers["make run"], "bin", "$(BIN)", 1)+"\n") {
		t.Errorf("make run does not run %s", servers["make run"])
	}
	ran := map[string]bool{}
	for _, page := range files(t, ".md") {
		todo, err := steps(read(t, page))
		if err != nil {
			t.Errorf("%s: %v", page, err)
		}
		if len(todo) == 0 || page == elsewhere {
			continue
		}
		ran[page] = true
		t.Run(page, func(t *testing.T) {
			t.Parallel()
			s := newSession(t, programs)
			for _, step := range todo {
				s.take(step)
			}
		})
	}
	for _, command := range tour {
		if todo, err := steps(read(t, "docs/tour.md")); err != nil || !slices.ContainsFunc(todo, func(s step) bool { return s.kind == runCommand && s.text == command }) {
			t.Errorf("docs/tour.md does not show %s: %v", command, err)
		}
	}
	for _, page := range []string{"README.md", "docs/tour.md", "docs/tutorial.md", "docs/pools.md", "docs/operating/admission.md", "docs/operating/backup.md",
		"docs/operating/capacity.md", "docs/operating/troubleshooting.md"} {
		if !ran[page] {
			t.Errorf("%s has no commands", page)
		}
	}
}

func TestMatches(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		output, shown string
		want          bool
	}{
		{"NAME   AGE\na      3s\n", "NAME  AGE\na  12m5s", true},
		{"a\nb\nc\n", "a\n...\nc\n", true},
		{"a\nb\nc\n", "a\n...\n", true},
		{"a\nb\nc\n", "...\nd\n", false},
		{"a\nb\n", "a\n", false},
		{"", "", true},
		{"a\n", "", false},
		{"10.0.0.0/24", "10.0.0.0/25", false},
		{"10.0.0.0/24", "10x0.0.0/24", false},
		{"a-0123456789abcdef  /24", "a-fedcba9876543210 /24", true},
		{"b-0123456789abcdef", "a-0123456789abcdef", false},
	} {
		if got := matches(tt.output, tt.shown); got != tt.want {
			t.Errorf("%q as %q: %v", tt.output, tt.shown, got)
		}
	}
}

func TestSteps(t *testing.T) {
	t.Parallel()
	page := strings.ReplaceAll("text\n'''console\n$ a \\\n  b <<EOF\nin\nEOF\nout\n$ c\n'''\n'''\nno\n'''\n'''yaml\n# file: x\ny: 1\n'''\n<!-- run\nd\n-->\n<!-- serve --x -->\n", "'''", "```")
	got, err := steps(page)
	want := []step{
		{runCommand, 3, "a \\\n  b <<EOF\nin\nEOF", "out\n"},
		{runCommand, 8, "c", ""},
		{writeFile, 13, "# file: x\ny: 1\n", "x"},
		{runHidden, 17, "d", ""},
		{runCommand, 20, "bin/ipam-standalone --x", "...\n"},
		{runHidden, 20, "export KUBECONFIG=.ipam/kubeconfig", ""},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v\ngot  %+v\nwant %+v", err, got, want)
	}
	for _, broken := range []string{"```console\n$ a\n", "```console\nout\n```\n", "<!-- run\na\n"} {
		if got, err := steps(broken); err == nil {
			t.Errorf("%q has the steps %+v", broken, got)
		}
	}
}
