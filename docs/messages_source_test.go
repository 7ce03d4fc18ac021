package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A collector reads messages out of the source: format strings, constants, and
// sums of both, in which %v stands for what is not constant.
type collector struct {
	fset   *token.FileSet
	consts map[string]string
	found  map[string]string // text to place
}

// messages are those of the program that a person may meet, tests and help
// aside. Where each stands is the value.
func messages(t *testing.T) map[string]string {
	c := &collector{token.NewFileSet(), map[string]string{}, map[string]string{}}
	c.inspect(t, c.constant)
	c.inspect(t, c.message)
	return c.found
}

func (c *collector) inspect(t *testing.T, visit func(file string, n ast.Node)) {
	t.Helper()
	for _, name := range productFiles(t) {
		f, err := parser.ParseFile(c.fset, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool { visit(name, n); return true })
	}
}

// productFiles are the Go files of the module that are the program's.
func productFiles(t *testing.T) (all []string) {
	t.Helper()
	others := []string{".git", "docs", "scripts", "testdata", "internal/testbed", "internal/system"}
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (slices.Contains(others, filepath.ToSlash(name)) || d.Name() == "testdata"):
			return fs.SkipDir
		case !d.IsDir() && filepath.Ext(name) == ".go" && !strings.HasSuffix(name, "_test.go"):
			all = append(all, filepath.ToSlash(name))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func (c *collector) constant(file string, n ast.Node) {
	if spec, ok := n.(*ast.ValueSpec); ok && len(spec.Values) == 1 && file != "main.go" {
		if lit, ok := spec.Values[0].(*ast.BasicLit); ok && lit.Kind == token.STRING {
			c.consts[spec.Names[0].Name] = c.text(lit)
		}
	}
}

// message notes what is said at n.
func (c *collector) message(file string, n ast.Node) {
	inCheck := path.Base(path.Dir(file)) == "check"
	expected := ""
	if file == filepath.Join("forward", "spec.go") { // its errors complete the sentence of settings.go
		expected = "expected "
	}
	switch n := n.(type) {
	case *ast.CallExpr:
		switch name := funcName(n); {
		case name == "fmt.Errorf", name == "errors.New":
			c.add(expected, n.Args[0])
		case name == "fail.Read", name == "fail.File", name == "about":
			if c.text(n.Args[0]) != "%v" { // about's, which is told what was done
				c.found[c.text(n.Args[0])+" %v: %v"] = c.at(n)
			}
		case strings.HasSuffix(name, ".Msg") && level(n) != "Debug":
			c.add("", n.Args[0])
		case name == "fmt.Println", name == "fmt.Printf", name == "fmt.Fprintln", name == "append":
			c.sentences(n.Args...)
		case name == "r.bad":
			c.add("expected ", n.Args[2])
		case name == "c.add" && !isIdent(n.Args[1], "well"):
			c.add("", n.Args[2])
		}
	case *ast.CompositeLit:
		switch {
		case isIdent(n.Type, "fault"), isIdent(n.Type, "exposed") && len(n.Elts) > 0:
			c.add("", n.Elts[0])
		case isIdent(n.Type, "point") && len(n.Elts) > 2 && !isIdent(n.Elts[1], "well"):
			c.add("", n.Elts[2])
		}
	case *ast.ReturnStmt:
		if len(n.Results) == 1 || inCheck {
			c.sentences(n.Results...)
		}
	case *ast.AssignStmt:
		if !inCheck || isIdent(n.Lhs[0], "text") || isIdent(n.Lhs[0], "ours") || isIdent(n.Lhs[0], "read") { // others mend
			c.sentences(n.Rhs...)
		}
	}
}

func (c *collector) at(n ast.Node) string { return c.fset.Position(n.Pos()).String() }

// add notes a message, if there are words in it at all.
func (c *collector) add(before string, e ast.Expr) {
	text := before + c.text(e)
	if regexp.MustCompile(`[a-z]{2}`).MatchString(verb.ReplaceAllString(text, "")) {
		c.found[text] = c.at(e)
	}
}

// sentences are noted if they are some.
func (c *collector) sentences(all ...ast.Expr) {
	for _, e := range all {
		if isSentence(c.text(e)) {
			c.add("", e)
		}
	}
}

// text is what is constant in e.
func (c *collector) text(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		if s, err := strconv.Unquote(e.Value); err == nil && e.Kind == token.STRING {
			return s
		}
	case *ast.Ident:
		if s, ok := c.consts[e.Name]; ok {
			return s
		}
	case *ast.BinaryExpr:
		if e.Op == token.ADD {
			return c.text(e.X) + c.text(e.Y)
		}
	case *ast.CallExpr:
		if funcName(e) == "fmt.Sprintf" {
			return c.text(e.Args[0])
		}
	}
	return "%v"
}

// funcName is f, x.f, or .f if it is called on what a call returned.
func funcName(n *ast.CallExpr) string {
	switch f := n.Fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		if x, ok := f.X.(*ast.Ident); ok {
			return x.Name + "." + f.Sel.Name
		}
		return "." + f.Sel.Name
	}
	return ""
}

// level is Warn in log.Warn().Err(err).Msg("...").
func level(n *ast.CallExpr) string {
	for {
		s, ok := n.Fun.(*ast.SelectorExpr)
		if !ok {
			return ""
		}
		inner, ok := s.X.(*ast.CallExpr)
		if !ok {
			return s.Sel.Name
		}
		n = inner
	}
}

func isIdent(e ast.Expr, name string) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == name
}

// isSentence is true for what people read, as opposed to names.
func isSentence(text string) bool {
	return regexp.MustCompile(`\b[a-z]{2,}[,:;]? [a-z]{2,}`).MatchString(verb.ReplaceAllString(text, ""))
}
