//go:build linux

package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A mutant is the program with one small fault: other text in the place of the
// bytes from..to of a file.
type mutant struct {
	file     string // below the module's root
	line     int
	from, to int
	text     string // in their place
	old      string // what they were
	what     string // the operator
	column   int
	at       token.Position // what coverage is asked for
	inside   bool           // a function; coverage knows no others
}

func (m mutant) String() string {
	return fmt.Sprintf("%s:%d:%d  %s: %s -> %s", m.file, m.line, m.column, m.what, short(m.old), short(m.text))
}

// short is a text as one line of bearable length.
func short(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > 60 {
		return string(r[:57]) + "..."
	}
	if s == "" {
		return "nothing"
	}
	return s
}

// source is a file that is searched for places of mutants.
type source struct {
	name  string
	text  []byte
	files *token.FileSet
	found []mutant
}

// mutantsOf are all mutants of a file below root.
func mutantsOf(root, name string) ([]mutant, error) {
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		return nil, err
	}
	s := &source{name: name, text: text, files: token.NewFileSet()}
	file, err := parser.ParseFile(s.files, name, text, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	s.search(file, nil, false)
	s.atSwitches(file)
	return s.found, nil
}

// atSwitches has coverage asked for the switch in which a case's expression is:
// that is in no block of its own.
func (s *source) atSwitches(file *ast.File) {
	ast.Inspect(file, func(n ast.Node) bool {
		sw, ok := n.(*ast.SwitchStmt)
		if !ok {
			return true
		}
		for _, c := range sw.Body.List {
			for _, e := range c.(*ast.CaseClause).List {
				from, to := s.files.Position(e.Pos()).Offset, s.files.Position(e.End()).Offset
				for i, m := range s.found {
					if from <= m.from && m.to <= to {
						s.found[i].at = s.files.Position(sw.Pos())
					}
				}
			}
		}
		return true
	})
}

func (s *source) of(n ast.Node) string {
	return string(s.text[s.files.Position(n.Pos()).Offset:s.files.Position(n.End()).Offset])
}

// add replaces what is between two places; counts is where coverage is asked for.
func (s *source) add(what string, from, to, counts token.Pos, text string, inside bool) {
	a, b := s.files.Position(from), s.files.Position(to)
	old := string(s.text[a.Offset:b.Offset])
	s.found = append(s.found, mutant{s.name, a.Line, a.Offset, b.Offset, text, old, what, s.files.Position(counts).Column, s.files.Position(counts), inside})
}

func (s *source) replace(what string, n ast.Node, text string, inside bool) {
	s.add(what, n.Pos(), n.End(), n.Pos(), text, inside)
}

// search collects the mutants of n, which is in a function with these results.
func (s *source) search(n ast.Node, results *ast.FieldList, inside bool) {
	ast.Inspect(n, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if n.Body != nil {
				s.search(n.Body, n.Type.Results, true)
			}
			return false
		case *ast.FuncLit:
			s.search(n.Body, n.Type.Results, true)
			return false
		case *ast.ImportSpec, *ast.ArrayType:
			return false
		case *ast.IfStmt:
			s.negate(n.Cond)
		case *ast.ForStmt:
			s.negate(n.Cond)
		case *ast.BlockStmt:
			s.drop(n.List)
		case *ast.CaseClause:
			s.drop(n.Body)
		case *ast.CommClause:
			s.drop(n.Body)
		case *ast.SwitchStmt:
			if n.Tag == nil {
				for _, c := range n.Body.List {
					for _, cond := range c.(*ast.CaseClause).List {
						s.negate(cond)
					}
				}
			}
		case *ast.ReturnStmt:
			s.zero(n, results)
		case *ast.BinaryExpr:
			return s.binary(n, inside)
		case *ast.BasicLit:
			s.constant(n, inside)
		case *ast.Ident:
			if other := map[string]string{"true": "false", "false": "true"}[n.Name]; other != "" {
				s.replace("constant", n, other, inside)
			}
		}
		return true
	})
}

func (s *source) negate(cond ast.Expr) {
	if b, ok := cond.(*ast.BinaryExpr); cond == nil || ok && (b.Op == token.EQL || b.Op == token.NEQ) {
		return // a swap of the comparison is the same
	}
	s.replace("negate", cond, "!("+s.of(cond)+")", true)
}

// drop leaves out each of the statements that can be missed, and each case.
func (s *source) drop(list []ast.Stmt) {
	for _, n := range list {
		switch n := n.(type) {
		case *ast.AssignStmt:
			if n.Tok != token.DEFINE {
				s.replace("drop", n, "", true)
			}
		case *ast.ExprStmt, *ast.IncDecStmt, *ast.DeferStmt, *ast.GoStmt, *ast.SendStmt, *ast.BranchStmt:
			s.replace("drop", n, "", true)
		case *ast.CaseClause:
			s.add("drop case", n.Pos(), n.End(), bodyOf(n, n.Body), "", true)
		case *ast.CommClause:
			s.add("drop case", n.Pos(), n.End(), bodyOf(n, n.Body), "", true)
		}
	}
}

func bodyOf(clause ast.Node, body []ast.Stmt) token.Pos {
	if len(body) > 0 {
		return body[0].Pos()
	}
	return clause.Pos()
}

// zero returns each result's zero value in its place.
func (s *source) zero(n *ast.ReturnStmt, results *ast.FieldList) {
	var types []string
	if results != nil {
		for _, f := range results.List {
			for range max(1, len(f.Names)) {
				types = append(types, s.of(f.Type))
			}
		}
	}
	if len(types) != len(n.Results) { // none, or one call's
		return
	}
	for i, r := range n.Results {
		switch text := s.of(r); {
		case slices.Contains([]string{"nil", "0", "false", `""`}, text), strings.HasSuffix(text, "{}"):
		default:
			s.replace("zero", r, "*new("+types[i]+")", true)
		}
	}
}

var swapped = map[token.Token]token.Token{
	token.LSS: token.LEQ, token.LEQ: token.LSS, token.GTR: token.GEQ, token.GEQ: token.GTR,
	token.EQL: token.NEQ, token.NEQ: token.EQL, token.LAND: token.LOR, token.LOR: token.LAND,
}

// binary swaps an operator, and reports whether what is in n is to be searched.
func (s *source) binary(n *ast.BinaryExpr, inside bool) bool {
	if other, ok := swapped[n.Op]; ok {
		s.add("swap", n.OpPos, n.OpPos+token.Pos(len(n.Op.String())), n.OpPos, other.String(), inside)
	}
	number, ok := n.X.(*ast.BasicLit)
	if !ok || n.Op != token.MUL || !strings.HasPrefix(s.of(n.Y), "time.") {
		return true
	}
	// A millisecond more or less is nothing that a test should see.
	s.replace("constant", number, number.Value+"*10", inside)
	s.replace("constant", n, s.of(n)+"/10", inside)
	return false
}

func (s *source) constant(n *ast.BasicLit, inside bool) {
	switch n.Kind {
	case token.CHAR:
		if r, _, _, err := strconv.UnquoteChar(n.Value[1:], '\''); err == nil {
			s.replace("constant", n, strconv.QuoteRune(r+1), inside)
		}
	case token.INT, token.FLOAT:
		if strings.HasPrefix(n.Value, "0o") {
			s.replace("constant", n, "0o777", inside)
			return
		}
		s.replace("constant", n, "("+n.Value+"+1)", inside)
		if n.Value != "0" {
			s.replace("constant", n, "("+n.Value+"-1)", inside)
		}
	}
}
