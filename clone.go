package zerohop

import "reflect"

// clone returns a copy of the spec that shares nothing with it.
func (s Spec) clone() Spec { return deepCopy(reflect.ValueOf(s)).Interface().(Spec) }

// deepCopy copies plain data: no cycles, no interfaces, and nothing that cannot be seen from here but in values such as time.Time,
// which are never changed in place.
func deepCopy(v reflect.Value) reflect.Value {
	if !holds(v.Type()) || v.IsZero() {
		return v
	}
	out := reflect.New(v.Type()).Elem()
	out.Set(v)
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() && holds(f.Type) {
				out.Field(i).Set(deepCopy(v.Field(i)))
			}
		}
	case reflect.Map:
		out.Set(reflect.MakeMapWithSize(v.Type(), v.Len()))
		for it := v.MapRange(); it.Next(); {
			out.SetMapIndex(it.Key(), deepCopy(it.Value()))
		}
	case reflect.Slice:
		out.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
		for i := range v.Len() {
			out.Index(i).Set(deepCopy(v.Index(i)))
		}
	case reflect.Pointer:
		out.Set(reflect.New(v.Type().Elem()))
		out.Elem().Set(deepCopy(v.Elem()))
	}
	return out
}

// holds reports whether a value of the type can share something with its copy.
func holds(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Map, reflect.Slice, reflect.Pointer:
		return true
	case reflect.Struct:
		for i := range t.NumField() {
			if f := t.Field(i); f.IsExported() && holds(f.Type) {
				return true
			}
		}
	}
	return false
}
